package reconcile

import (
	"bytes"
	"context"
	"log/slog"
	"maps"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// CreateTopic creates a topic and places it. It fails with *TopicExistsError,
// *placement.NotEnoughBrokersError, *LimitError or *UnfinishedError.
func (l *Loop) CreateTopic(ctx context.Context, r *controllerv1.CreateTopicRequest) (*controllerv1.CreateTopicResponse, error) {
	return ask(ctx, l, func(ctx context.Context, a *active) (*controllerv1.CreateTopicResponse, error) {
		return a.createTopic(ctx, r)
	})
}

// UpdateTopicConfig changes settings. It fails with *UnknownTopicError,
// *ConflictError or an error of topicconfig.
func (l *Loop) UpdateTopicConfig(ctx context.Context, r *controllerv1.UpdateTopicConfigRequest) (*controllerv1.UpdateTopicConfigResponse, error) {
	return ask(ctx, l, func(ctx context.Context, a *active) (*controllerv1.UpdateTopicConfigResponse, error) {
		return a.updateTopicConfig(ctx, r)
	})
}

// DeleteTopic deletes a topic. It fails with *UnknownTopicError.
func (l *Loop) DeleteTopic(ctx context.Context, r *controllerv1.DeleteTopicRequest) (*controllerv1.DeleteTopicResponse, error) {
	return ask(ctx, l, func(ctx context.Context, a *active) (*controllerv1.DeleteTopicResponse, error) {
		return a.deleteTopic(ctx, r)
	})
}

// answered returns the answer that the same request got before.
func answered[M proto.Message](a *active, requestID string, digest store.RequestID) (M, bool) {
	var (
		m  M
		ok bool
	)
	if requestID != "" {
		a.o.Image.Read(func(v *image.View) { m, ok = v.Answers[digest].Record.(M) })
	}
	return m, ok
}

// createDigest is that of the request that made a topic of that record. What
// the request left to the cluster is not part of it: the same request may find
// more brokers when it is repeated.
func createDigest(t *controllerv1.TopicRecord) store.RequestID {
	factor := int64(t.GetReplicationFactor())
	if t.GetDefaultReplicationFactor() {
		factor = 0
	}
	return store.Digest("create", t.GetRequestId(), t.GetTopic(), []int64{int64(t.GetPartitionCount()), factor}, t.GetConfig(), nil)
}

// defaultFactor returns how many replicas partitions have for which none are
// asked: as many as is set, or as there are brokers if there are fewer. One
// that is down for now counts, so that nothing becomes less safe by being
// created just then; one that is drained does not.
func (a *active) defaultFactor() uint32 {
	brokers := 0
	a.o.Image.Read(func(v *image.View) {
		for _, b := range v.Brokers {
			if !b.Record.GetDraining() {
				brokers++
			}
		}
	})
	return uint32(max(1, min(a.o.ReplicationFactor, brokers)))
}

func (a *active) createTopic(ctx context.Context, r *controllerv1.CreateTopicRequest) (*controllerv1.CreateTopicResponse, error) {
	rec := &controllerv1.TopicRecord{
		Topic: r.GetTopic(), PartitionCount: max(1, r.GetPartitionCount()), ReplicationFactor: r.GetReplicationFactor(),
		Config: r.GetConfig(), RequestId: r.GetRequestId(), CreateTimeMs: a.o.Now().UnixMilli(),
	}
	if rec.GetReplicationFactor() == 0 {
		rec.ReplicationFactor, rec.DefaultReplicationFactor = a.defaultFactor(), true
	}
	if before, ok := answered[*controllerv1.CreateTopicResponse](a, rec.GetRequestId(), createDigest(rec)); ok {
		return before, nil
	}
	var (
		revision int64
		begun    store.TopicID
		err      error
	)
	a.o.Image.Read(func(v *image.View) {
		revision = v.Revision
		begun, err = a.mayCreate(v, rec)
	})
	switch {
	case err != nil:
		return nil, err
	case begun != store.TopicID{}:
		return a.finished(ctx, begun, rec.GetTopic())
	case r.GetValidateOnly():
		return &controllerv1.CreateTopicResponse{Topic: rec, Revision: revision}, nil
	}
	if rec.TopicId, err = a.newID(); err != nil {
		return nil, err
	}
	id := store.TopicID(rec.GetTopicId())
	name := &controllerv1.TopicRecord{TopicId: rec.GetTopicId()}
	intent := new(store.Edit).Expect(store.NameKey(rec.GetTopic()), 0).Put(store.NameKey(rec.GetTopic()), name).
		Expect(store.IntentKey(id), 0).Put(store.IntentKey(id), rec)
	if _, err := a.commit(ctx, intent); err != nil {
		return nil, err
	}
	a.o.Logger.InfoContext(ctx, "topic created", slog.String("topic", rec.GetTopic()), slog.String("topic_id", id.String()),
		slog.Int("partitions", int(rec.GetPartitionCount())), slog.Int("replicas", int(rec.GetReplicationFactor())))
	return a.finished(ctx, id, rec.GetTopic())
}

// finished brings a topic that is being created to its end.
func (a *active) finished(ctx context.Context, id store.TopicID, name string) (*controllerv1.CreateTopicResponse, error) {
	if err := a.settle(ctx); err != nil {
		return nil, err
	}
	var resp *controllerv1.CreateTopicResponse
	a.o.Image.Read(func(v *image.View) {
		if t := v.Topics[id]; t != nil {
			resp = &controllerv1.CreateTopicResponse{Topic: t.Record, Revision: t.Revision}
		}
	})
	if resp == nil {
		return nil, &UnfinishedError{Topic: name}
	}
	return resp, nil
}

// mayCreate refuses a topic that cannot be created now. If the same request
// has begun to create it, it returns that topic's identity.
func (a *active) mayCreate(v *image.View, rec *controllerv1.TopicRecord) (store.TopicID, error) {
	if n, taken := v.Names[rec.GetTopic()]; taken {
		if t := topicOf(v, n.Topic); t != nil && rec.GetRequestId() != "" &&
			createDigest(t.Record) == createDigest(rec) {
			return n.Topic, nil
		}
		return store.TopicID{}, &TopicExistsError{Topic: rec.GetTopic()}
	}
	if after := v.Partitions + int(rec.GetPartitionCount()); after > a.o.MaxPartitions {
		return store.TopicID{}, &LimitError{Limit: "partitions of the cluster", Most: int64(a.o.MaxPartitions), Actual: int64(after)}
	}
	if err := a.o.Room(); err != nil {
		return store.TopicID{}, err
	}
	_, err := placer(v, rec)
	return store.TopicID{}, err
}

func (a *active) updateTopicConfig(ctx context.Context, r *controllerv1.UpdateTopicConfigRequest) (*controllerv1.UpdateTopicConfigResponse, error) {
	var expected []int64
	if r.ExpectedRevision != nil {
		expected = []int64{r.GetExpectedRevision()}
	}
	digest := store.Digest("update", r.GetRequestId(), r.GetTopic(), expected, r.GetSet(), r.GetReset_())
	if before, ok := answered[*controllerv1.UpdateTopicConfigResponse](a, r.GetRequestId(), digest); ok {
		return before, nil
	}
	var old *image.Topic
	a.o.Image.Read(func(v *image.View) { old = v.TopicByName(r.GetTopic()) })
	if old == nil {
		return nil, &UnknownTopicError{Topic: r.GetTopic()}
	}
	if r.ExpectedRevision != nil && r.GetExpectedRevision() != old.Revision {
		return nil, &ConflictError{Topic: r.GetTopic(), Expected: r.GetExpectedRevision(), Current: old.Revision}
	}
	next, _, err := topicconfig.Change(old.Record.GetConfig(), r.GetSet(), r.GetReset_())
	if err != nil {
		return nil, err
	}
	rec := proto.CloneOf(old.Record)
	rec.Config = next
	// Unless it changes something, the revision is that of the last change.
	resp := &controllerv1.UpdateTopicConfigResponse{Topic: rec, Revision: old.Revision}
	if r.GetValidateOnly() {
		return resp, nil
	}
	if maps.Equal(next, old.Record.GetConfig()) {
		return resp, nil // which it is again when the request is repeated
	}
	if err := a.o.Room(); err != nil {
		return nil, err
	}
	k := store.TopicKey(store.TopicID(rec.GetTopicId()))
	e := new(store.Edit).Expect(k, old.Revision).Put(k, rec)
	if r.GetRequestId() != "" {
		e.Put(store.RequestKey(digest), resp)
	}
	if resp.Revision, err = a.commit(ctx, e); err != nil {
		return nil, err
	}
	a.scan = true // partitions carry some of the settings
	if err := a.settle(ctx); err != nil {
		return nil, err
	}
	a.o.Logger.InfoContext(ctx, "topic settings changed", slog.String("topic", rec.GetTopic()), slog.Any("set", r.GetSet()), slog.Any("reset", r.GetReset_()))
	return resp, nil
}

func (a *active) deleteTopic(ctx context.Context, r *controllerv1.DeleteTopicRequest) (*controllerv1.DeleteTopicResponse, error) {
	var now int64
	if r.GetNow() {
		now = 1
	}
	digest := store.Digest("delete", r.GetRequestId(), r.GetTopic(), []int64{now}, nil, []string{string(r.GetTopicId())})
	if before, ok := answered[*controllerv1.DeleteTopicResponse](a, r.GetRequestId(), digest); ok {
		return before, nil
	}
	var (
		t          *image.Topic
		name       image.Name
		generation uint32
	)
	a.o.Image.Read(func(v *image.View) {
		t, name = v.TopicByName(r.GetTopic()), v.Names[r.GetTopic()]
		generation = v.Cluster.Record.GetGeneration()
	})
	switch {
	case t == nil:
		return nil, &UnknownTopicError{Topic: r.GetTopic()}
	case len(r.GetTopicId()) > 0 && !bytes.Equal(r.GetTopicId(), t.Record.GetTopicId()):
		return nil, &UnknownTopicError{Topic: r.GetTopic(), Another: true}
	}
	id := store.TopicID(t.Record.GetTopicId())
	e := new(store.Edit).Expect(store.TopicKey(id), t.Revision).Delete(store.TopicKey(id)).
		Expect(store.NameKey(r.GetTopic()), name.Revision).Delete(store.NameKey(r.GetTopic())).
		DeletePartitions(id).
		Put(store.DeletionKey(id), &controllerv1.DeletionRecord{
			TopicId: id[:], Topic: r.GetTopic(), DeleteTimeMs: a.o.Now().UnixMilli(), Now: r.GetNow(), ClusterGeneration: generation,
		})
	resp := new(controllerv1.DeleteTopicResponse)
	if r.GetRequestId() != "" {
		e.Put(store.RequestKey(digest), resp)
	}
	var err error
	if resp.Revision, err = a.commit(ctx, e); err != nil {
		return nil, err
	}
	a.o.Logger.InfoContext(ctx, "topic deleted", slog.String("topic", r.GetTopic()), slog.String("topic_id", id.String()), slog.Bool("now", r.GetNow()))
	return resp, nil
}
