package api

import (
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

// recordForm makes frames of decompressed records. It is send's own.
type recordForm struct {
	it record.Iterator
	// large: the iterator may hold the memory of a decompressed batch.
	large bool
}

// recordsReadBytes is how much is read at once for frames of records: each
// batch is walked at once, and one that no credit is left for is read again.
const recordsReadBytes = 256 << 10

// rest gives up memory while nothing is to be sent.
func (r *recordForm) rest() {
	if r.large {
		*r = recordForm{}
	}
}

// deliverRecords reads batches and sends their records, in frames of at most
// so many bytes, or of one record that is larger.
func (f *fetchStream) deliverRecords(s *subscription, most int) error {
	got, b, err := f.read(s, min(most, recordsReadBytes))
	if err != nil {
		return f.fail(s, err)
	}
	defer rpc.SharedPool().Put(b)
	if len(got.Bytes) == 0 {
		return f.atEnd(s)
	}
	if s.until >= 0 && got.Next > s.until {
		got = cutAt(got, s.until)
	}
	w := recordFrames{f: f, s: s}
	for rest := got.Bytes; len(rest) > 0; {
		h, batch, size, err := record.ParseLogBatch(rest)
		if err != nil {
			return f.fail(s, err)
		}
		rest = rest[size:]
		f.records.large = f.records.large || h.Attributes.Compression() != record.None
		more, err := w.add(&h, batch)
		if err != nil || !more {
			w.discard()
			return err
		}
	}
	if sent, err := w.flush(got.Next); err != nil || !sent {
		return err
	}
	return f.onward(s, s.caughtUp)
}

// recordFrames collects records into frames of one subscription.
type recordFrames struct {
	f    *fetchStream
	s    *subscription
	b    *[]byte       // nil: empty
	most int           // bytes of records for b
	next record.Offset // after the last record in b
}

// add adds the records of a batch, from the subscription's position on, and
// sends the frames that are full. It returns false if the subscription waits
// for credit or is over.
func (w *recordFrames) add(h *record.Header, batch []byte) (more bool, err error) {
	it := &w.f.records.it
	for it.ResetLogBatch(h, batch); it.Next(); {
		if it.Offset() < w.s.next {
			continue
		}
		fr := wire.FetchedRecord{
			Offset: it.Offset(), TimestampMs: it.TimestampMs(), LeaderEpoch: h.LeaderEpoch, Record: it.Record(),
		}
		size := fr.Size()
		if w.b != nil && len(*w.b)+size > w.most {
			if sent, err := w.flush(w.next); err != nil || !sent {
				return false, err
			}
		}
		if w.b == nil {
			if !w.begin() {
				return false, nil
			}
			w.b = w.f.out.buffer(max(min(w.most, recordsReadBytes), size) + wire.MaxFetchResponseSize + len(w.s.topic.Name))
			*w.b = (*w.b)[:0]
		}
		*w.b = wire.AppendFetchedRecord(*w.b, &fr)
		w.next = it.Offset() + 1
	}
	if err := it.Err(); err != nil {
		return false, w.f.fail(w.s, err)
	}
	return true, nil
}

// begin says how large the next frame may be. It returns false if the
// subscription waits for credit.
func (w *recordFrames) begin() bool {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	room := w.f.credit.room()
	if room == 0 {
		w.f.starveLocked(w.s, 1)
		return false
	}
	w.most = int(min(uint64(w.s.maxFrame), room))
	return true
}

// flush sends what was collected as a frame that ends at next. It returns false
// if the subscription waits for credit: then the records are read again.
func (w *recordFrames) flush(next record.Offset) (sent bool, err error) {
	n := 0
	if w.b != nil {
		n = len(*w.b)
	}
	if !w.f.pay(w.s, uint64(n)) {
		w.discard()
		return false, nil
	}
	b := w.b
	if w.b = nil; b == nil {
		b = w.f.out.buffer(0)
		*b = (*b)[:0]
	}
	r, _ := w.s.head(next)
	r.CreditUsed = uint32(n)
	*b = wire.AppendFetchResponse(*b, &r)
	w.f.s.metrics.delivered(int(next-w.s.next), n)
	w.s.next = next
	return true, w.f.out.write(b)
}

func (w *recordFrames) discard() {
	if w.b != nil {
		rpc.SharedPool().Put(w.b)
		w.b = nil
	}
}
