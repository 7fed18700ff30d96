package api

import (
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

const (
	// recordsReadBytes is how much is read at once for frames of records: each
	// batch is walked at once, and one that no credit is left for is read again.
	recordsReadBytes = 256 << 10
	// recordFrameBytes bounds a frame of records, unless one record is larger.
	recordFrameBytes = 1 << 20
	// recordOverhead is the most that a record has in a frame and not in a
	// batch: its offset, time and leader epoch.
	recordOverhead = 40
	// leastRecordFrame is the least room for a frame of records.
	leastRecordFrame = 4 << 10
)

// deliverRecords reads batches and sends their records, in frames of at most
// so many bytes, or of one record that is larger.
func (f *fetchStream) deliverRecords(s *subscription, most int) error {
	most = min(most, recordsReadBytes)
	w := recordFrames{f: f, s: s, tail: frameTail(s.topic.Name)}
	// All that a first frame may need: so each read gets on, however little of
	// the budget is left for more.
	if err := f.mem.reserve(f.ctx, readReserve(most, 0)+record.MaxDecompressedBytes+w.frameReserve()); err != nil {
		return err
	}
	got, err := f.read(s, most, 0)
	if err != nil {
		return f.fail(s, err)
	}
	if len(got.Bytes) == 0 {
		return f.atEnd(s)
	}
	defer f.mem.drop()
	if s.goal.end >= 0 && got.Next > s.goal.end {
		got = cutAt(got, s.goal.end)
	}
	for w.rest = got.Bytes; len(w.rest) > 0; {
		h, batch, size, err := record.ParseLogBatch(w.rest)
		if err != nil {
			w.discard()
			return f.fail(s, err)
		}
		w.rest = w.rest[size:]
		more, err := w.add(&h, batch)
		if err != nil || !more {
			w.discard()
			return err
		}
	}
	if _, err := w.flush(got.Next); err != nil || w.starved {
		return err
	}
	return f.onward(s, s.caughtUp)
}

// recordFrames collects records into frames of one subscription.
type recordFrames struct {
	f       *fetchStream
	s       *subscription
	tail    int
	rest    []byte        // batches to come
	b       *[]byte       // nil: empty
	most    int           // bytes of records for b
	next    record.Offset // where the frame ends: after its last record, or the last batch
	epoch   int32         // of the record before next
	sent    bool          // a frame
	starved bool          // the subscription waits for credit
}

// frameReserve is what a frame may need.
func (w *recordFrames) frameReserve() int {
	return pooled(max(recordFrameBytes, record.MaxRecordBytes+recordOverhead) + w.tail)
}

// hold is what is needed of the budget now: the memory of the batch, and the
// frame, of which the first one is there in advance.
func (w *recordFrames) hold() int {
	n := w.f.mem.hold()
	switch {
	case w.b != nil:
		n += cap(*w.b)
	case !w.sent:
		n += w.frameReserve()
	}
	return n
}

// open puts the iterator before the first record of a batch. It returns false
// if there is no room to decompress it: then it is read again.
func (w *recordFrames) open(h *record.Header, batch []byte) bool {
	mem := w.f.mem
	if h.Attributes.Compression() != record.None {
		need := w.hold() + record.MaxDecompressedBytes - min(mem.batch.it.Held(), record.MaxDecompressedBytes)
		if !mem.grow(need - mem.own) {
			return false
		}
	}
	mem.batch.it.ResetLogBatch(h, batch)
	mem.keep(w.hold())
	return true
}

// add adds the records of a batch, from the subscription's position on, and
// sends the frames that are full. It returns false if the subscription is to be
// read again from its new position, waits for credit, or is over.
func (w *recordFrames) add(h *record.Header, batch []byte) (more bool, err error) {
	if !w.open(h, batch) {
		return false, w.again()
	}
	it := &w.f.mem.batch.it
	for it.Next() {
		if it.Offset() < w.s.next {
			continue
		}
		if w.s.atGoal(it.Offset()) { // it was seen elsewhere, where batches may be others
			break
		}
		fr := wire.FetchedRecord{
			Offset: it.Offset(), TimestampMs: it.TimestampMs(), LeaderEpoch: h.LeaderEpoch, Record: it.Record(),
		}
		size := fr.Size()
		if w.b != nil && len(*w.b)+size > w.most {
			kept, err := w.flush(w.next)
			if err != nil || w.starved {
				return false, err
			}
			if !kept {
				w.f.requeue(w.s)
				return false, nil
			}
		}
		if w.b == nil {
			if more, err := w.begin(size, it.Left()); err != nil || !more {
				return false, err
			}
		}
		*w.b = wire.AppendFetchedRecord(*w.b, &fr)
		w.next, w.epoch = it.Offset()+1, int32(h.LeaderEpoch)
	}
	if err := it.Err(); err != nil {
		w.discard()
		return false, w.f.fail(w.s, err)
	}
	if w.next, w.epoch = max(w.next, h.End()), int32(h.LeaderEpoch); w.s.atGoal(w.next) {
		w.next = w.s.goal.end
	}
	return true, nil
}

// begin begins a frame, of a record of that size and what follows it, of which
// `left` bytes are in the same batch. It returns false as add does.
func (w *recordFrames) begin(size, left int) (more bool, err error) {
	f := w.f
	f.mu.Lock()
	room := f.credit.room()
	if room == 0 {
		f.starveLocked(w.s, 1)
		f.mu.Unlock()
		return false, nil
	}
	f.mu.Unlock()
	w.most = int(min(uint64(w.s.maxFrame), room, recordFrameBytes))
	// Records are a little larger in a frame than in a batch; where that is not
	// enough the frame is sent before it is as large as it may be.
	guess := max(size+(left+len(w.rest))*9/8+recordOverhead, leastRecordFrame)
	w.most = min(w.most, guess)
	b := f.out.buffer(max(w.most, size) + w.tail)
	if w.sent && !f.mem.grow(cap(*b)) {
		rpc.SharedPool().Put(b)
		return false, w.again()
	}
	*b = (*b)[:0]
	w.b = b
	f.mem.keep(w.hold())
	return true, nil
}

// again sends what there is and lets the subscription be read again, since the
// budget has no more at once. Batches without a record that is asked for are
// passed, too: each turn gets on.
func (w *recordFrames) again() error {
	if w.next > w.s.next {
		if _, err := w.flush(w.next); err != nil || w.starved {
			return err
		}
	}
	w.f.requeue(w.s)
	return nil
}

// flush sends what was collected as a frame that ends at next. If the
// subscription waits for credit (starved) the records are read again. kept is
// false if the memory of the batch was given up while the client did not read.
func (w *recordFrames) flush(next record.Offset) (kept bool, err error) {
	n := 0
	if w.b != nil {
		n = len(*w.b)
	}
	if !w.f.pay(w.s, uint64(n)) {
		w.starved = true
		w.discard()
		return false, nil
	}
	r, _ := w.s.head(next)
	w.s.said(&r)
	r.CreditUsed = uint32(n)
	w.f.s.metrics.delivered(int(next-w.s.next), n, w.s.roaming.replica)
	w.s.next, w.s.epoch = next, w.epoch
	b := w.b
	w.b = nil
	if b == nil { // of batches without a record that is asked for
		return true, w.f.frame(&r)
	}
	w.sent = true
	*b = wire.AppendFetchResponse(*b, &r)
	mem := w.f.mem
	mem.keep(w.hold() + cap(*b))
	parked := mem.parkBatch()
	err = w.f.out.lend(b)
	return mem.unparkBatch(parked), err
}

// discard gives up a frame that is not sent.
func (w *recordFrames) discard() {
	if w.b != nil {
		rpc.SharedPool().Put(w.b)
		w.b = nil
	}
}
