package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/millstream-io/millstream/controller/store"
)

var _ store.KV = (*Member)(nil)

// Txn is part of store.KV.
func (m *Member) Txn(ctx context.Context, t store.Txn) (int64, bool, error) {
	cmps := make([]clientv3.Cmp, len(t.Compares))
	for i, c := range t.Compares {
		cmps[i] = clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Revision)
	}
	ops := make([]clientv3.Op, len(t.Ops))
	for i, o := range t.Ops {
		switch o.Kind {
		case store.OpPut:
			ops[i] = clientv3.OpPut(o.Key, string(o.Value))
		case store.OpDelete:
			ops[i] = clientv3.OpDelete(o.Key)
		case store.OpDeletePrefix:
			ops[i] = clientv3.OpDelete(o.Key, clientv3.WithPrefix())
		}
	}
	resp, err := m.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return 0, false, fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	if err != nil {
		return 0, false, fmt.Errorf("metadata transaction: %w", err)
	}
	return resp.Header.Revision, resp.Succeeded, nil
}

// Range is part of store.KV.
func (m *Member) Range(ctx context.Context, r store.Range) (store.Page, error) {
	from := r.Prefix
	if r.After != "" {
		from = r.After + "\x00"
	}
	opts := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(r.Prefix)), clientv3.WithLimit(r.Limit)}
	if r.Revision != 0 {
		opts = append(opts, clientv3.WithRev(r.Revision))
	}
	resp, err := m.client.Get(ctx, from, opts...)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return store.Page{}, &store.CompactedError{Asked: r.Revision}
	}
	if err != nil {
		return store.Page{}, fmt.Errorf("read metadata: %w", err)
	}
	p := store.Page{More: resp.More, Revision: resp.Header.Revision, Entries: make([]store.Entry, len(resp.Kvs))}
	for i, kv := range resp.Kvs {
		p.Entries[i] = store.Entry{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision}
	}
	return p, nil
}

// Watch is part of store.KV.
func (m *Member) Watch(ctx context.Context, prefix string, from int64, apply func([]store.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watch in etcd
	for w := range m.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if w.CompactRevision != 0 {
			return &store.CompactedError{Asked: from, Oldest: w.CompactRevision}
		}
		if err := w.Err(); err != nil {
			return fmt.Errorf("watch metadata: %w", err)
		}
		// A response has whole revisions: they are split only on request.
		events := make([]store.Event, len(w.Events))
		for i, e := range w.Events {
			events[i] = store.Event{
				Entry:   store.Entry{Key: string(e.Kv.Key), Value: e.Kv.Value, Revision: e.Kv.ModRevision},
				Deleted: e.Type == clientv3.EventTypeDelete,
			}
		}
		if err := apply(events); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.New("watch metadata: the store has stopped")
}
