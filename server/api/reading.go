package api

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

const (
	// storedBatchBytes is the most that one batch takes in the log.
	storedBatchBytes = record.MaxBatchBytes + record.MaxHeaderSize + 64
	// leastReadBytes is the least budget with which every read is possible.
	leastReadBytes = 32 << 20
	// parkAfter is how long a message may wait for its client before the
	// decompressed batch, from which the next ones are made, is given up.
	parkAfter = time.Second
)

// reading is what one Fetch stream or Read holds of the process's budget for
// reading: what its sender has in hand, and the frames that the transport has
// not written.
//
// Bytes are taken before the memory is filled. Those of a frame go over to the
// transport with it and come back when the transport has written it, or has
// dropped it with its stream.
//
// No deadlock: a sender waits for the budget only in reserve, and has then
// nothing in hand; all else asks by TryAcquire and goes on without. So whoever
// holds bytes while others wait is either working, which ends, or waits for its
// client: the transport writes its frames without the budget, or StallTimeout
// ends the stream, and a second one the connection. Those who wait are served
// in order (broker.Budget).
//
// It is the mem.BufferPool of the frames that are lent: a buffer counts by its
// capacity, so that nothing has to be remembered of it.
type reading struct {
	budget *broker.Budget

	// The sender's own.
	own   int // bytes in hand
	batch *batchMemory
	park  *time.Timer // nil: was never used

	parked atomic.Pointer[batchMemory] // while a message waits to be taken
	lent   atomic.Int64                // bytes with the transport; settled: nothing counts any longer
}

// settled is the value of reading.lent when the transport's bytes were given
// back all at once.
const settled = -1

// batchMemory is where batches are read to and walked.
type batchMemory struct {
	it    record.Iterator
	buf   *[]byte // nil: none
	bytes int     // of the budget, while it is parked
}

func newReading(b *broker.Budget) *reading {
	return &reading{budget: b, batch: &batchMemory{}}
}

// pooled is the most that a pooled buffer for n bytes has.
func pooled(n int) int { return n + n/4 + leastBuffer }

// readReserve is what a read of about so many bytes may need.
func readReserve(most, tail int) int { return pooled(max(most, storedBatchBytes) + tail) }

// reserve takes bytes, and waits for them if it must; then it gives up first
// what is in hand.
func (r *reading) reserve(ctx context.Context, n int) error {
	if r.grow(n) {
		return nil
	}
	r.rest()
	if err := r.budget.Acquire(ctx, n); err != nil {
		return err
	}
	r.own = n
	return nil
}

// grow takes bytes if they are there.
func (r *reading) grow(n int) bool {
	if n > 0 && !r.budget.TryAcquire(n) {
		return false
	}
	r.own += max(n, 0)
	return true
}

// keep gives back all that is in hand but n bytes.
func (r *reading) keep(n int) {
	if n < r.own {
		r.budget.Release(r.own - n)
		r.own = n
	}
}

// hold tells how much the batch's memory counts.
func (r *reading) hold() int {
	n := min(r.batch.it.Held(), record.MaxDecompressedBytes)
	if r.batch.buf != nil {
		n += cap(*r.batch.buf)
	}
	return n
}

// alloc gives memory to read a range to, in place of what it gave before.
func (r *reading) alloc(n int) []byte {
	r.free()
	r.batch.buf = rpc.SharedPool().Get(max(n, leastBuffer))
	return (*r.batch.buf)[:n]
}

// free gives up what was read.
func (r *reading) free() {
	if b := r.batch.buf; b != nil {
		r.batch.buf = nil
		rpc.SharedPool().Put(b)
	}
}

// drop gives up what was read, and what was reserved beyond what is kept to
// decompress the next batch to.
func (r *reading) drop() {
	r.free()
	r.keep(r.hold())
}

// take returns what was read, to become a frame.
func (r *reading) take() *[]byte {
	b := r.batch.buf
	r.batch.buf = nil
	r.keep(r.hold() + cap(*b))
	return b
}

// rest gives up everything in hand.
func (r *reading) rest() {
	r.free()
	if r.batch.it.Held() > 0 {
		r.batch = &batchMemory{}
	}
	r.keep(0)
}

// lend passes a frame's bytes to the transport.
//
// REQUIRES: the frame's capacity is in hand.
func (r *reading) lend(b *[]byte) {
	n := cap(*b)
	r.own -= n
	for {
		old := r.lent.Load()
		if old == settled {
			r.budget.Release(n)
			return
		}
		if r.lent.CompareAndSwap(old, old+int64(n)) {
			return
		}
	}
}

// Get is that of the shared pool.
func (r *reading) Get(n int) *[]byte { return rpc.SharedPool().Get(n) }

// Put takes back a frame that the transport needs no longer.
func (r *reading) Put(b *[]byte) {
	n := cap(*b)
	rpc.SharedPool().Put(b)
	for {
		old := r.lent.Load()
		if old == settled {
			return
		}
		if r.lent.CompareAndSwap(old, old-int64(n)) {
			r.budget.Release(n)
			return
		}
	}
}

// unwritten tells whether the transport has frames.
func (r *reading) unwritten() bool { return r.lent.Load() > 0 }

// settle gives back what the transport has, which is gone with its stream.
func (r *reading) settle() {
	if n := r.lent.Swap(settled); n > 0 {
		r.budget.Release(int(n))
	}
}

// end is called when the handler is about to return. gone: the transport has
// dropped the stream. Else it still has to write what it was given, though
// nobody can end the stream any more: who does not take that in time loses the
// connection, or streams that end one after the other would pile up frames.
func (r *reading) end(gone bool, timeout time.Duration, cut func()) {
	if gone || !r.unwritten() {
		r.settle()
		return
	}
	time.AfterFunc(timeout, func() {
		if r.unwritten() {
			cut()
		}
		r.settle()
	})
}

// parkBatch is called before a message is handed to the transport, unparkBatch
// after it: if the client does not take the message for parkAfter, what batches
// were decompressed to is given up, and is to be read again. unparkBatch then
// returns false, and nothing of the batch is there.
//
// In between the batch's memory is nobody's: who takes it out of `parked` has it.
func (r *reading) parkBatch() bool {
	m := r.batch
	if m.it.Held() == 0 {
		return false
	}
	// What is in hand beside the frame, which lend takes out.
	m.bytes = r.hold()
	r.parked.Store(m)
	if r.park == nil {
		r.park = time.AfterFunc(parkAfter, r.giveUp)
	} else {
		r.park.Reset(parkAfter)
	}
	return true
}

func (r *reading) unparkBatch(parked bool) (kept bool) {
	if !parked {
		return true
	}
	r.park.Stop()
	if r.parked.Swap(nil) != nil {
		return true
	}
	r.own -= r.batch.bytes
	r.batch = &batchMemory{}
	return false
}

// giveUp gives up what is parked. It may come late, and then takes what is
// parked for a later message: that is read again, too.
func (r *reading) giveUp() {
	m := r.parked.Swap(nil)
	if m == nil {
		return
	}
	if m.buf != nil {
		rpc.SharedPool().Put(m.buf)
	}
	m.buf, m.it = nil, record.Iterator{}
	r.budget.Release(m.bytes)
}

// frameTail is the room for what is beside the records in a frame.
func frameTail(topic string) int { return wire.MaxFetchResponseSize + len(topic) }
