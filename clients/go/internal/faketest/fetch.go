package faketest

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// fetching is one Fetch stream.
type fetching struct {
	server *Server
	stream grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]

	mu      sync.Mutex // guards the rest, and sending
	credit  uint64
	limited bool
	used    uint64
	granted chan struct{} // closed and replaced at every grant
	gone    map[uint64]context.CancelFunc
}

// Fetch pushes what is subscribed.
func (s *Server) Fetch(stream grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
	f := &fetching{server: s, stream: stream, granted: make(chan struct{}), gone: make(map[uint64]context.CancelFunc)}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go func() { // ends with the stream
		for {
			q, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					cancel(err)
				}
				return
			}
			f.grant(q)
			for _, sub := range q.GetSubscribe() {
				one, stop := context.WithCancel(ctx)
				f.mu.Lock()
				f.gone[sub.GetSubscriptionId()] = stop
				f.mu.Unlock()
				go func() {
					defer stop()
					if err := f.push(one, sub); err != nil {
						cancel(err)
					}
				}()
			}
		}
	}()
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, ErrEnd) {
		return err
	}
	return nil
}

// ErrEnd ends a stream well, when OnFrame returns it.
var ErrEnd = errors.New("end the stream")

func (f *fetching) grant(q *pb.FetchRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range q.GetUnsubscribe() {
		if stop := f.gone[id]; stop != nil {
			stop()
		}
	}
	if q.Credit == nil {
		return
	}
	f.limited, f.credit = true, max(f.credit, q.GetCredit())
	close(f.granted)
	f.granted = make(chan struct{})
	if f.server.OnCredit != nil {
		f.server.OnCredit(q.GetCredit())
	}
}

// push sends a partition, one batch a frame.
func (f *fetching) push(ctx context.Context, sub *pb.FetchSubscription) error {
	refuse := func(e *pb.RequestError) error {
		return f.send(&Frame{FetchResponse: &pb.FetchResponse{
			SubscriptionId: sub.GetSubscriptionId(), Partition: sub.GetPartition(), Control: &pb.FetchResponse_Error{Error: e},
		}})
	}
	if f.server.OnFetch != nil {
		if e := f.server.OnFetch(sub); e != nil {
			return refuse(e)
		}
	}
	l := f.server.Log(sub.GetTopic(), sub.GetPartition())
	if l == nil {
		return refuse(&pb.RequestError{Code: uint32(codes.NotFound), Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION})
	}
	at, stop, e := l.begin(sub.GetPosition())
	if e != nil {
		return refuse(e)
	}
	for caughtUp := false; ; {
		b, end, changed := l.from(at)
		frame := &Frame{FetchResponse: &pb.FetchResponse{
			SubscriptionId: sub.GetSubscriptionId(), Partition: sub.GetPartition(), FirstOffset: at, NextOffset: at, HighWatermark: end,
		}}
		finished := sub.GetUntilEnd() && at >= stop
		switch {
		case b == nil && (!caughtUp || finished):
			frame.Control = &pb.FetchResponse_CaughtUp{CaughtUp: &pb.CaughtUp{Finished: finished}}
			caughtUp = true
		case b == nil:
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil
			}
		default:
			frame.Raw, frame.NextOffset, frame.CreditUsed = [][]byte{b.raw}, b.next, uint32(len(b.raw))
			caughtUp = false
			if !f.await(ctx) {
				return nil
			}
		}
		if err := f.send(frame); err != nil || finished && b == nil {
			return err
		}
		at = frame.NextOffset
	}
}

// await waits for credit.
func (f *fetching) await(ctx context.Context) bool {
	for {
		f.mu.Lock()
		ok, granted := !f.limited || f.used < f.credit, f.granted
		f.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-granted:
		case <-ctx.Done():
			return false
		}
	}
}

// rawFrame is a frame with its batches as bytes.
type rawFrame struct{ bytes []byte }

func (f *fetching) send(frame *Frame) error {
	if f.server.OnFrame != nil {
		if err := f.server.OnFrame(frame); err != nil {
			return err
		}
	}
	var b []byte
	for _, raw := range frame.Raw {
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendBytes(b, raw)
	}
	b, err := proto.MarshalOptions{}.MarshalAppend(b, frame.FetchResponse)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used += uint64(frame.GetCreditUsed())
	return f.stream.SendMsg(&rawFrame{b})
}

// codec lets frames pass as bytes.
type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*rawFrame); ok {
		return mem.BufferSlice{mem.SliceBuffer(m.bytes)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// begin resolves a position, and the end as it is now.
func (l *Log) begin(p *pb.FetchPosition) (at, end int64, e *pb.RequestError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end = l.end()
	switch p.GetAt().(type) {
	case *pb.FetchPosition_Offset:
		at = p.GetOffset()
	case *pb.FetchPosition_Latest:
		at = end
	case *pb.FetchPosition_BeforeEnd:
		at = max(end-p.GetBeforeEnd(), l.start)
	default:
		at = l.start
	}
	if at < l.start || at > end {
		return 0, 0, &pb.RequestError{
			Code: uint32(codes.OutOfRange), Reason: pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE, Message: "outside the log",
			Detail: &pb.RequestError_OffsetRange{OffsetRange: &pb.OffsetRange{Start: l.start, End: end}},
		}
	}
	return at, end, nil
}

// from returns the batch with the record at, nil at the end.
func (l *Log) from(at int64) (b *stored, end int64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.batches {
		if l.batches[i].next > at {
			return &l.batches[i], l.end(), l.changed
		}
	}
	return nil, l.end(), l.changed
}
