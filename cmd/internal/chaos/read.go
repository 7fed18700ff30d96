package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/history"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// place is how far a reader is.
type place struct {
	next  int64
	epoch int32 // of the record before; -1: none
}

// follow reads all partitions of a topic until ctx ends, through one broker
// after the other, each time from where it was.
func (r *run) follow(ctx context.Context, topic int, random *rand.Rand) {
	var at [partitions]place
	for p := range at {
		at[p].epoch = -1
	}
	for ctx.Err() == nil {
		begun, err := r.readOn(ctx, topic, random.IntN(len(r.conns)), &at)
		for p := range begun {
			r.book.Read(history.ReadFail, topics[topic], uint32(p), history.Read{Reader: readerOf(topic, p)}, nil, fmt.Sprint(err))
		}
		if !pause(ctx, time.Duration(20+random.IntN(80))*time.Millisecond) {
			return
		}
	}
}

func readerOf(topic, partition int) uint64 { return uint64(topic*partitions + partition + 1) }

// readOn reads on one stream until it breaks. It returns how many partitions it
// began to read.
func (r *run) readOn(ctx context.Context, topic, broker int, at *[partitions]place) (begun int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewBrokerServiceClient(r.conns[broker]).Fetch(ctx)
	if err != nil {
		return 0, err
	}
	req := &pb.FetchRequest{}
	for p := range at {
		r.book.Read(history.ReadBegin, topics[topic], uint32(p), history.Read{Reader: readerOf(topic, p), From: at[p].next}, nil, "")
		position := &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: at[p].next}}
		if at[p].epoch >= 0 {
			position.LeaderEpoch = &at[p].epoch
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
			return partitions, fmt.Errorf("partition %d: %s", f.GetPartition(), e.GetMessage())
		}
		if f.GetDrain() != nil {
			return partitions, errors.New("the broker stops")
		}
		if len(f.GetBatches()) == 0 || f.GetSubscriptionId() == 0 || f.GetSubscriptionId() > partitions {
			continue
		}
		p := int(f.GetSubscriptionId()) - 1
		r.book.Read(history.ReadOK, topics[topic], uint32(p), seen(readerOf(topic, p), f), f.GetBatches(), "")
		at[p] = place{f.GetNextOffset(), f.GetBatches()[len(f.GetBatches())-1].GetLeaderEpoch()}
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
	stream, err := pb.NewBrokerServiceClient(r.conns[0]).Fetch(ctx)
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
