package store

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Writer is the right of the active controller to write. It is one
// goroutine's. After any error but ErrFull it is spent: the owner campaigns
// again.
type Writer struct {
	kv     KV
	active Active
}

// Active returns the election that the right comes from.
func (w *Writer) Active() Active { return w.active }

// Edit is a change of the metadata that is committed whole or not at all. The
// first mistake in it is kept and Commit returns it.
type Edit struct {
	compares []Compare
	ops      []Op
	err      error
}

// Expect makes the edit depend on the last change of a key having been at
// that revision; 0: on there being no such key.
func (e *Edit) Expect(k Key, revision int64) *Edit {
	e.compares = append(e.compares, Compare{Key: k.String(), Revision: revision})
	return e
}

// Put puts a message, or an answer under a KindRequest key.
func (e *Edit) Put(k Key, m proto.Message) *Edit {
	encode := proto.Marshal
	if k.Kind == KindRequest {
		encode = encodeAnswer
	}
	b, err := encode(m)
	if err != nil && e.err == nil {
		e.err = fmt.Errorf("encode %s: %w", k, err)
	}
	e.ops = append(e.ops, Op{Kind: OpPut, Key: k.String(), Value: b})
	return e
}

// Delete deletes a key.
func (e *Edit) Delete(k Key) *Edit {
	e.ops = append(e.ops, Op{Kind: OpDelete, Key: k.String()})
	return e
}

// DeletePartitions deletes the partitions of a topic, as one operation.
func (e *Edit) DeletePartitions(id TopicID) *Edit {
	e.ops = append(e.ops, Op{Kind: OpDeletePrefix, Key: PartitionsPrefix(id)})
	return e
}

// Len returns the number of operations.
func (e *Edit) Len() int { return len(e.ops) }

// Room reports whether so many more operations, each with a comparison, fit.
func (e *Edit) Room(ops int) bool {
	return len(e.ops)+ops <= MaxOps && len(e.compares)+ops <= MaxOps
}

// Commit carries the edit out and returns its revision. It fails with
// ErrFull, when nothing was written; with ErrDeposed, when a comparison did
// not hold: the active is the only writer, so that means that it no longer is;
// or with ErrUnknownOutcome.
func (w *Writer) Commit(ctx context.Context, e *Edit) (int64, error) {
	if e.err != nil {
		return 0, e.err
	}
	t := Txn{Ops: e.ops, Compares: make([]Compare, 0, len(e.compares)+1)}
	t.Compares = append(t.Compares, Compare{Key: ElectionKey.String(), Revision: w.active.Revision})
	t.Compares = append(t.Compares, e.compares...)
	rev, held, err := w.kv.Txn(ctx, t)
	switch {
	case errors.Is(err, ErrFull):
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	case !held:
		return 0, ErrDeposed
	}
	return rev, nil
}
