package api

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// frameWriter sends encoded messages on a stream, and ends the stream of a
// client that does not take them. It belongs to one goroutine.
type frameWriter struct {
	stream  grpc.ServerStream
	timeout time.Duration
	stall   *time.Timer  // runs while a message waits to be taken, or to be written
	begun   atomic.Int64 // when the last message was handed over, since clockStart
	sending atomic.Bool  // it waits to be taken
	lent    *reading     // nil: nothing is lent to the transport
	message outgoing
	slices  mem.BufferSlice // room for messages to come
}

// slicesAtOnce is how many messages one allocation of slices lasts for. They
// cannot be used again: the transport keeps them for as long as it likes.
const slicesAtOnce = 64

// newFrameWriter returns a writer; stalled is called when the client has left a
// message unread for the timeout.
func newFrameWriter(stream grpc.ServerStream, timeout time.Duration, stalled func()) *frameWriter {
	w := &frameWriter{stream: stream, timeout: timeout}
	w.stall = time.AfterFunc(timeout, func() {
		if w.waits() {
			stalled()
		}
	})
	w.stall.Stop()
	return w
}

// waits tells whether the client has let the last message wait for the whole
// timeout: to be taken, or, if it is lent, to be written. The timer may be an
// earlier message's that was left running.
func (w *frameWriter) waits() bool {
	since := time.Since(clockStart) - time.Duration(w.begun.Load())
	return since >= w.timeout && (w.sending.Load() || (w.lent != nil && w.lent.unwritten()))
}

// clockStart is where monotonic times count from.
var clockStart = time.Now()

// endStalled returns what ends the stream of a client that does not read.
func (s *BrokerService) endStalled(cancel context.CancelCauseFunc) func() {
	return func() {
		s.metrics.stalled.Inc()
		cancel(readerTooSlow(s.limits.StallTimeout))
	}
}

// readerTooSlow says that a client did not read.
func readerTooSlow(after time.Duration) *rpc.Fault {
	return fault(codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_READER_TOO_SLOW,
		fmt.Sprintf("the client has not read for %v (stream.stall.timeout)", after))
}

// leastBuffer is the least buffer for a message: more than gRPC thinks worth
// pooling, and room for an answer of everyday.
const leastBuffer = 1280

// buffer returns a buffer to encode a message into. It may be replaced by a
// larger one.
func (w *frameWriter) buffer(n int) *[]byte { return rpc.SharedPool().Get(max(n, leastBuffer)) }

// write sends a message and waits until the transport has taken it, which
// keeps the buffer until it is written. The error is gRPC's.
func (w *frameWriter) write(b *[]byte) error { return w.send(b, rpc.SharedPool()) }

// lend is write for a frame that counts in the budget for reading until the
// transport has written it.
//
// REQUIRES: the frame's capacity is in hand.
func (w *frameWriter) lend(b *[]byte) error {
	w.lent.lend(b)
	return w.send(b, w.lent)
}

func (w *frameWriter) send(b *[]byte, pool mem.BufferPool) error {
	if len(w.slices) == 0 {
		w.slices = make(mem.BufferSlice, slicesAtOnce)
	}
	w.message.slice, w.slices = w.slices[:1:1], w.slices[1:]
	w.message.slice[0] = mem.NewBuffer(b, pool)
	w.begun.Store(int64(time.Since(clockStart)))
	w.sending.Store(true)
	w.stall.Reset(w.timeout)
	err := w.stream.SendMsg(&w.message)
	w.sending.Store(false)
	if w.lent == nil || !w.lent.unwritten() {
		w.stall.Stop()
	}
	return err
}

// outgoing is a message that is encoded already.
type outgoing struct{ slice mem.BufferSlice }

// MarshalRaw hands the bytes over.
func (o *outgoing) MarshalRaw() (mem.BufferSlice, error) { return o.slice, nil }
