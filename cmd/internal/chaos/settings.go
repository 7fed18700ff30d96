package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/chronicle"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

const (
	// admins change settings of topics, and ask for them, all the while.
	admins = 2
	// setting is what they change. Its values are beyond what a run can fill: they
	// change nothing but the metadata, and each is asked for once.
	setting      = "retention.bytes"
	settingBegin = 1 << 40
	// changeTries is how often a change is asked for, each time at another broker,
	// until it is known what became of it.
	changeTries = 5
	// adminPatience is how long an answer of a broker is waited for.
	adminPatience = 3 * time.Second
)

// ledger is what admins have in common.
type ledger struct {
	ops  atomic.Uint64 // changes asked for
	seen atomic.Int64  // the greatest revision of an answer
	// meant is the revision of each topic that was told last.
	meant [len(topics)]atomic.Int64
}

// saw notes a revision of the metadata that there is.
func (l *ledger) saw(revision int64) {
	for {
		seen := l.seen.Load()
		if revision <= seen || l.seen.CompareAndSwap(seen, revision) {
			return
		}
	}
}

// administer changes settings and asks for them until ctx ends.
func (r *run) administer(ctx context.Context, random *rand.Rand) {
	for pause(ctx, 100*time.Millisecond+time.Duration(random.IntN(400))*time.Millisecond) {
		t := random.IntN(len(topics))
		if random.IntN(3) == 0 {
			r.change(ctx, t, random)
			continue
		}
		// Half of the times it asks for all that anybody has seen.
		least := r.ledger.seen.Load() * int64(random.IntN(2))
		_ = r.describe(ctx, t, random.IntN(len(r.conns)), least) // it may be what is broken
	}
}

// change sets a setting of a topic, half of the times only if it is as it was
// told last.
func (r *run) change(ctx context.Context, topic int, random *rand.Rand) {
	op := r.ledger.ops.Add(1)
	req := &pb.UpdateTopicConfigRequest{
		Topic: topics[topic], Set: map[string]string{setting: strconv.FormatUint(settingBegin+op, 10)}, RequestId: fmt.Sprintf("chaos-%d", op),
	}
	if meant := r.ledger.meant[topic].Load(); meant > 0 && random.IntN(2) == 0 {
		req.ExpectedRevision = &meant
	}
	r.book.Ask(op, req)
	why := "the run ended"
	for range changeTries {
		asking, cancel := context.WithTimeout(ctx, adminPatience)
		got, err := pb.NewTopicServiceClient(r.conns[random.IntN(len(r.conns))]).UpdateTopicConfig(asking, req)
		cancel()
		if err == nil {
			r.book.Done(op, got.GetTopic())
			r.ledger.saw(got.GetTopic().GetRevision())
			r.ledger.meant[topic].Store(got.GetTopic().GetRevision())
			return
		}
		why = err.Error()
		if e := rpc.RequestErrorOf(err); e.GetReason() == pb.ErrorReason_ERROR_REASON_CONFLICT {
			r.book.Undone(op, req.GetTopic(), false, chronicle.Reason(e.GetReason()))
			return
		}
		if !pause(ctx, 100*time.Millisecond) {
			break
		}
	}
	r.book.Undone(op, req.GetTopic(), true, why)
}

// describe asks a broker for a topic, in metadata of at least a revision.
func (r *run) describe(ctx context.Context, topic, broker int, least int64) error {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	got, err := pb.NewTopicServiceClient(r.conns[broker]).GetTopic(ctx, &pb.GetTopicRequest{Topic: topics[topic], MinRevision: least})
	if err != nil {
		return err
	}
	r.ledger.saw(r.book.Described(least, got))
	r.ledger.meant[topic].Store(got.GetTopic().GetRevision())
	return nil
}

// describeAll asks every broker for all topics, in metadata that has all that
// anybody was told.
func (r *run) describeAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	least := r.ledger.seen.Load()
	for _, m := range r.brokers() {
		for t := range topics {
			if err := untilEach(ctx, adminPatience, func(ctx context.Context) error { return r.describe(ctx, t, m.ID-1, least) }); err != nil {
				return fmt.Errorf("what %s says of %s: %w", m.Name(), topics[t], err)
			}
		}
	}
	return nil
}
