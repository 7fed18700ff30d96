package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/chronicle"
	"github.com/millstream-io/millstream/cmd/internal/history"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

const (
	// catchUpFor is how long a reader may take to the end when nothing is broken.
	catchUpFor = 30 * time.Second
	// lookEvery is how often that is looked at.
	lookEvery = 20 * time.Millisecond
)

// following is how far the reader of a topic is in each partition.
type following struct {
	next  [partitions]atomic.Int64
	epoch [partitions]int32 // of the record before; -1: none. The reader's own
	seek  [partitions]bool  // it goes elsewhere. The reader's own
	last  atomic.Pointer[error]
}

// errNoneYet says that a reader has not been on two streams yet.
var errNoneYet = errors.New("none yet")

// errRerouted says that a broker has ended a subscription and named another.
var errRerouted = errors.New("another broker serves the partition")

// why returns why the reader went to another broker last.
func (f *following) why() error {
	if err := f.last.Load(); err != nil {
		return *err
	}
	return errNoneYet
}

// refusedError is an error that a broker answered for a subscription.
type refusedError struct {
	partition uint32
	*pb.RequestError
}

// Error says it for people.
func (e *refusedError) Error() string {
	return fmt.Sprintf("partition %d: %s", e.partition, e.GetMessage())
}

// follow reads all partitions of a topic until ctx ends, through one broker
// after the other, each time from where it was.
func (r *run) follow(ctx context.Context, topic int, random *rand.Rand) {
	at := &r.followed[topic]
	for p := range at.epoch {
		at.epoch[p] = -1
	}
	for ctx.Err() == nil {
		begun, err := r.readOn(ctx, topic, random.IntN(len(r.conns)), at)
		at.last.Store(&err)
		why := fmt.Sprint(err)
		if e, ok := errors.AsType[*refusedError](err); ok {
			why = chronicle.Reason(e.GetReason())
			r.judgeRefusal(topic, e)
		}
		for p := range begun {
			r.book.Read(history.ReadFail, topics[topic], uint32(p), history.Read{Reader: readerOf(topic, p)}, nil, why)
		}
		if !pause(ctx, time.Duration(20+random.IntN(80))*time.Millisecond) {
			return
		}
	}
}

// judgeRefusal notes answers that no fault of the menu is a reason for: what a
// reader was given was committed, and stays.
func (r *run) judgeRefusal(topic int, e *refusedError) {
	switch e.GetReason() {
	case pb.ErrorReason_ERROR_REASON_DIVERGED, pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE:
		if topics[topic] == "memory" && r.forgetful.Load() {
			at := &r.followed[topic] // from the start: where it was is gone
			at.next[e.partition].Store(0)
			at.epoch[e.partition], at.seek[e.partition] = -1, true
			return
		}
		r.guard.note(fmt.Errorf("a reader of %s that goes on where it was is refused: %w", topics[topic], e))
	default: // it goes on elsewhere, or later
	}
}

// caughtUp waits until every reader has reached the end of what was produced.
func (r *run) caughtUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpFor)
	defer cancel()
	for t, name := range topics {
		got, err := pb.NewTopicServiceClient(r.anyConn()).ListOffsets(ctx, &pb.ListOffsetsRequest{
			Topic: name, At: &pb.ListOffsetsRequest_Latest{Latest: true},
		})
		if err != nil {
			return fmt.Errorf("ends of %s: %w", name, err)
		}
		for _, o := range got.GetOffsets() {
			if e := o.GetError(); e != nil {
				return fmt.Errorf("end of %s/%d: %s", name, o.GetPartition(), e.GetMessage())
			}
			at := &r.followed[t]
			for at.next[o.GetPartition()].Load() < o.GetOffset() {
				if !pause(ctx, lookEvery) {
					return fmt.Errorf("the reader of %s/%d stands at %d of %d, last error: %w",
						name, o.GetPartition(), at.next[o.GetPartition()].Load(), o.GetOffset(), at.why())
				}
			}
		}
	}
	return nil
}

func readerOf(topic, partition int) uint64 { return uint64(topic*partitions + partition + 1) }

// readOn reads on one stream until it breaks. It returns how many partitions it
// began to read.
func (r *run) readOn(ctx context.Context, topic, broker int, at *following) (begun int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewBrokerServiceClient(r.conns[broker]).Fetch(ctx)
	if err != nil {
		return 0, err
	}
	req := &pb.FetchRequest{}
	for p := range partitions {
		next := at.next[p].Load()
		r.book.Read(history.ReadBegin, topics[topic], uint32(p), history.Read{Reader: readerOf(topic, p), From: next, Seek: at.seek[p]}, nil, "")
		at.seek[p] = false
		position := &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: next}}
		if at.epoch[p] >= 0 {
			position.LeaderEpoch = &at.epoch[p]
		}
		req.Subscribe = append(req.Subscribe, &pb.FetchSubscription{
			SubscriptionId: uint64(p) + 1, Topic: topics[topic], Partition: uint32(p), Position: position, Form: pb.FetchForm_FETCH_FORM_BATCHES,
		})
	}
	if err := stream.Send(req); err != nil {
		return partitions, err
	}
	for {
		f, err := stream.Recv()
		if err != nil {
			return partitions, err
		}
		if e := f.GetError(); e != nil {
			return partitions, &refusedError{f.GetPartition(), e}
		}
		if f.GetDrain() != nil {
			return partitions, errors.New("the broker stops")
		}
		if f.GetReroute() != nil {
			return partitions, errRerouted
		}
		if len(f.GetBatches()) == 0 || f.GetSubscriptionId() == 0 || f.GetSubscriptionId() > partitions {
			continue
		}
		p := int(f.GetSubscriptionId()) - 1
		r.book.Read(history.ReadOK, topics[topic], uint32(p), seen(readerOf(topic, p), f), f.GetBatches(), "")
		at.epoch[p] = f.GetBatches()[len(f.GetBatches())-1].GetLeaderEpoch()
		at.next[p].Store(f.GetNextOffset())
	}
}

func seen(reader uint64, f *pb.FetchResponse) history.Read {
	return history.Read{
		Reader: reader, From: f.GetFirstOffset(), Next: f.GetNextOffset(), HighWatermark: f.GetHighWatermark(), LogStart: f.GetLogStart(),
	}
}

// drain reads every partition from the start to its end, and returns the ends.
func (r *run) drain(ctx context.Context) (map[string]map[uint32]int64, error) {
	ends := make(map[string]map[uint32]int64)
	for t, name := range topics {
		ends[name] = make(map[uint32]int64)
		for p := range uint32(partitions) {
			end, err := r.drainOne(ctx, name, p, uint64(1000)+readerOf(t, int(p)))
			if err != nil {
				return nil, fmt.Errorf("last read of %s/%d: %w", name, p, err)
			}
			ends[name][p] = end
		}
	}
	return ends, nil
}

func (r *run) drainOne(ctx context.Context, topic string, partition uint32, reader uint64) (end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	stream, err := pb.NewBrokerServiceClient(r.anyConn()).Fetch(ctx)
	if err != nil {
		return 0, err
	}
	r.book.Read(history.ReadBegin, topic, partition, history.Read{Reader: reader, Drain: true, UntilEnd: true}, nil, "")
	if err := stream.Send(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{
		Topic: topic, Partition: partition, UntilEnd: true, Form: pb.FetchForm_FETCH_FORM_BATCHES,
		Position: &pb.FetchPosition{At: &pb.FetchPosition_Offset{}},
	}}}); err != nil {
		return 0, err
	}
	for {
		f, err := stream.Recv()
		if err != nil {
			return end, err
		}
		if e := f.GetError(); e != nil {
			return end, errors.New(e.GetMessage())
		}
		if f.GetReroute() != nil {
			return end, errRerouted
		}
		s := seen(reader, f)
		if len(f.GetBatches()) > 0 {
			r.book.Read(history.ReadOK, topic, partition, s, f.GetBatches(), "")
			end = f.GetNextOffset()
		}
		if f.GetCaughtUp().GetFinished() {
			s.Finished = true
			r.book.Read(history.ReadEnd, topic, partition, s, nil, "")
			return max(end, f.GetNextOffset()), nil
		}
	}
}
