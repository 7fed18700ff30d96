package reconcile

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/backup"
	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/placement"
	"github.com/millstream-io/millstream/controller/store"
)

// CreatePartitions gives a topic more partitions. They come in steps of so many
// as fit in a transaction, each whole: whoever repeats the request after a
// failure half-way gets the rest. It fails with *UnknownTopicError,
// *FewerPartitionsError, *placement.NotEnoughBrokersError or *LimitError.
func (l *Loop) CreatePartitions(ctx context.Context, r *controllerv1.CreatePartitionsRequest) (*controllerv1.CreatePartitionsResponse, error) {
	return ask(ctx, l, func(ctx context.Context, a *active) (*controllerv1.CreatePartitionsResponse, error) {
		return a.grow(ctx, r)
	})
}

func (a *active) grow(ctx context.Context, r *controllerv1.CreatePartitionsRequest) (*controllerv1.CreatePartitionsResponse, error) {
	for {
		var (
			resp *controllerv1.CreatePartitionsResponse
			e    *store.Edit
			err  error
		)
		a.o.Image.Read(func(v *image.View) { resp, e, err = a.growStep(v, r) })
		if err != nil || e == nil {
			return resp, err
		}
		if _, err := a.commit(ctx, e); err != nil {
			return nil, err
		}
		a.scan = a.scan || resp.GetTopic().GetFromBackup()
		a.o.Logger.InfoContext(ctx, "partitions created", slog.String("topic", r.GetTopic()), slog.Int("partitions", int(resp.GetTopic().GetPartitionCount())))
	}
}

// growStep returns the next step, or the answer when there is none.
func (a *active) growStep(v *image.View, r *controllerv1.CreatePartitionsRequest) (*controllerv1.CreatePartitionsResponse, *store.Edit, error) {
	t := v.TopicByName(r.GetTopic())
	if t == nil {
		return nil, nil, &UnknownTopicError{Topic: r.GetTopic()}
	}
	have, want := t.Record.GetPartitionCount(), r.GetPartitionCount()
	resp := &controllerv1.CreatePartitionsResponse{Topic: t.Record, Revision: t.Revision}
	switch after := v.Partitions - int(have) + int(want); {
	case want < have:
		return nil, nil, &FewerPartitionsError{Topic: r.GetTopic(), Have: have, Asked: want}
	case want == have:
		return resp, nil, nil
	case after > a.o.MaxPartitions:
		return nil, nil, &LimitError{Limit: "partitions of the cluster", Most: int64(a.o.MaxPartitions), Actual: int64(after)}
	}
	if err := a.o.Room(); err != nil {
		return nil, nil, err
	}
	p, err := placer(v, t.Record)
	if err != nil {
		return nil, nil, err
	}
	rec := proto.CloneOf(t.Record)
	rec.PartitioningEpoch++
	rec.PartitionCount = min(want, have+partitionsPerEdit)
	if r.GetValidateOnly() {
		rec.PartitionCount = want
		resp.Topic = rec
		return resp, nil, nil
	}
	resp.Topic = rec
	return resp, growEdit(v, t, rec, p), nil
}

// growEdit makes the partitions that a topic has more in a record of it.
func growEdit(v *image.View, t *image.Topic, rec *controllerv1.TopicRecord, p *placement.Placer) *store.Edit {
	for _, there := range t.Partitions {
		p.Placed(placed(there.Record))
	}
	id := store.TopicID(rec.GetTopicId())
	c := settingsOf(t)
	// The topic comes first: its partitions are nothing without.
	e := new(store.Edit).Expect(store.TopicKey(id), t.Revision).Put(store.TopicKey(id), rec)
	for n := t.Record.GetPartitionCount(); n < rec.GetPartitionCount(); n++ {
		k := store.PartitionKey(id, n)
		part := newPartition(v, rec, c, n, p.Next())
		if rec.GetFromBackup() {
			doubt(part, v.Cluster.Record.GetGeneration())
		}
		e.Expect(k, 0).Put(k, part)
	}
	return e
}

// doubt has brokers say whether they hold a log of a new partition before
// anybody leads it: the topic comes from a backup, after which it may have had
// a partition of that number.
func doubt(p *controllerv1.PartitionRecord, generation uint32) {
	p.Leader, p.LeaderEpoch = election.NoLeader, int32(generation-1)*backup.LeaderEpochsPerGeneration+firstLeaderEpoch
	p.InSyncReplicas, p.LastKnown, p.FromBackup = nil, p.GetReplicas(), true
}
