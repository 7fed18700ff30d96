package api

import (
	"errors"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// send sends frames until the stream ends, one subscription after the other,
// and ends it when nothing will ever be left to send.
func (f *fetchStream) send() {
	defer f.end()
	for {
		if err := f.sendControl(); err != nil {
			f.cancel(err)
			return
		}
		f.mu.Lock()
		passing := f.elsewhere != nil && len(f.elsewhere.ready) > 0
		s := f.ready.head
		if s != nil {
			f.ready.remove(s)
			s.state = sending
		}
		finished := s == nil && f.halfClosed && len(f.subs) == 0 && len(f.control) == 0
		f.mu.Unlock()
		if passing {
			if err := f.passOn(); err != nil {
				f.cancel(err)
				return
			}
		}
		switch {
		case finished:
			f.cancel(errFinished)
			return
		case s == nil && passing:
		case s == nil:
			f.mem.rest()
			select {
			case <-f.work:
			case <-f.ctx.Done():
				return
			}
		default:
			if err := f.deliver(s); err != nil {
				f.cancel(err)
				return
			}
		}
		if f.ctx.Err() != nil {
			return
		}
	}
}

// sendControl sends what is not of a subscription's turn: errors of requests,
// and the end of the stream when the server stops.
func (f *fetchStream) sendControl() error {
	f.mu.Lock()
	control, draining := f.control, f.draining
	f.control = nil
	f.mu.Unlock()
	for i := range control {
		if err := f.frame(&control[i]); err != nil {
			return err
		}
	}
	if len(control) > 0 {
		wake(f.room)
	}
	if !draining {
		return nil
	}
	if err := f.frame(&wire.FetchResponse{Drain: &pb.Drain{}}); err != nil {
		return err
	}
	return errFinished
}

// frame sends a frame without records.
func (f *fetchStream) frame(r *wire.FetchResponse) error {
	b := f.out.buffer(0)
	*b = wire.AppendFetchResponse((*b)[:0], r)
	return f.out.write(b)
}

// deliver sends the next frame of a subscription and says where it goes from
// here. The error is that of the stream.
func (f *fetchStream) deliver(s *subscription) error {
	if f.unpark(s) {
		return nil
	}
	f.mu.Lock()
	room := f.credit.room()
	f.mu.Unlock()
	switch {
	case s.atGoal(s.next):
		return f.finish(s)
	case room == 0:
		f.starve(s, 1)
		return nil
	}
	if s.rack != "" && f.roam(s) {
		return nil
	}
	most := min(uint64(s.maxFrame), room)
	if s.form == pb.FetchForm_FETCH_FORM_RECORDS {
		return f.deliverRecords(s, int(most))
	}
	return f.deliverBatches(s, int(most))
}

// deliverBatches sends batches as they are stored: their bytes are copied once,
// out of the log, and the rest of the frame is written behind them.
func (f *fetchStream) deliverBatches(s *subscription, most int) error {
	tail := frameTail(s.topic.Name)
	if err := f.mem.reserve(f.ctx, readReserve(most, tail)); err != nil {
		return err
	}
	got, err := f.read(s, most, tail)
	if err != nil {
		return f.fail(s, err)
	}
	if len(got.Bytes) == 0 {
		return f.atEnd(s)
	}
	if s.goal.end >= 0 && got.Next > s.goal.end {
		got = cutAt(got, s.goal.end)
	}
	n := uint64(len(got.Bytes))
	if !f.pay(s, n) {
		f.mem.drop()
		return nil
	}
	b := f.mem.take()
	r, atEnd := s.head(got.Next)
	s.said(&r)
	r.CreditUsed = uint32(n)
	*b = wire.AppendFetchResponse(got.Bytes, &r)
	f.s.metrics.delivered(int(got.Next-s.next), len(got.Bytes), s.roaming.replica)
	s.next, s.epoch = got.Next, int32(got.LastEpoch)
	if err := f.out.lend(b); err != nil {
		return err
	}
	return f.onward(s, atEnd)
}

// read reads a range into the memory of mem, with room for the rest of a frame
// behind it. If there is nothing, or an error, nothing is kept.
//
// REQUIRES: what it may need is reserved.
func (f *fetchStream) read(s *subscription, most, tail int) (commitlog.Range, error) {
	f.tail = tail
	got, err := s.reader.Read(s.next, most, f.alloc)
	if err != nil || len(got.Bytes) == 0 {
		f.mem.drop()
		if err == nil {
			s.staleFrom = time.Time{}
		}
		return commitlog.Range{}, err
	}
	s.staleFrom = time.Time{}
	return got, nil
}

// allocate gives a reader memory for batches. What it gave before is not used.
func (f *fetchStream) allocate(n int) []byte { return f.mem.alloc(n + f.tail)[:n] }

// cutAt cuts a range at an offset that was an end of the log. That is an end of a
// batch, unless the end was seen elsewhere, in another history: then the last
// batch goes beyond it.
func cutAt(got commitlog.Range, until record.Offset) commitlog.Range {
	at := 0
	for at < len(got.Bytes) {
		h, size, err := record.PeekLogBatch(got.Bytes[at:])
		if err != nil || h.BaseOffset >= until {
			break
		}
		at += size
	}
	got.Bytes, got.Next = got.Bytes[:at], until
	return got
}

// head returns the fields of the subscription's next frame, which ends at
// `next`, and whether the reader then has reached the end. Who sends the frame
// calls said.
func (s *subscription) head(next record.Offset) (r wire.FetchResponse, atEnd bool) {
	st := s.part.State()
	r = wire.FetchResponse{
		SubscriptionID: s.id, Partition: s.partition, FirstOffset: s.next, NextOffset: next,
		HighWatermark: st.HighWatermark, LogStart: st.LogStart,
	}
	if !s.announced {
		r.Topic, r.TopicID, r.HasTopicID = s.topic.Name, record.TopicID(s.topic.ID), true
	}
	if !s.roaming.named {
		r.BrokerID, r.HasBrokerID = s.f.s.broker.ID(), true
	}
	finished := s.atGoal(next) && s.goal.short == nil
	atEnd = next >= st.HighWatermark || finished
	r.CaughtUp, r.Finished = atEnd, finished
	return r, atEnd
}

// said notes what the client is told with a frame of head's, so that it is not
// told again.
//
// WHY not in head: a frame that is not sent after all has told nothing. Who is
// not told by its first frame of which topic a subscription is takes those that
// come for frames of another one, and drops them.
func (s *subscription) said(r *wire.FetchResponse) {
	s.announced, s.roaming.named, s.caughtUp = true, true, r.CaughtUp
}

// pay takes credit for a frame, or lets the subscription wait for it.
func (f *fetchStream) pay(s *subscription, n uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.credit.fits(n) {
		f.credit.take(n)
		return true
	}
	f.starveLocked(s, n)
	return false
}

// starve lets a subscription wait for so many bytes of credit.
func (f *fetchStream) starve(s *subscription, need uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starveLocked(s, need)
}

func (f *fetchStream) starveLocked(s *subscription, need uint64) {
	if s.need = need; f.credit.fits(need) { // granted meanwhile
		f.queue(s)
	} else if s.state != over {
		s.state = starved
		f.starved.push(s)
	}
}

// onward queues the subscription behind the others, or lets it wait for its
// partition.
func (f *fetchStream) onward(s *subscription, atEnd bool) error {
	switch {
	case s.atGoal(s.next) && s.goal.short == nil:
		f.drop(s)
	case s.atGoal(s.next):
		f.requeue(s) // to be told why
	case atEnd:
		f.arm(s)
	default:
		f.requeue(s)
	}
	return nil
}

func (f *fetchStream) requeue(s *subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue(s)
}

// atEnd is told that there is nothing to read: the client is told once.
func (f *fetchStream) atEnd(s *subscription) error {
	if !s.caughtUp {
		r, atEnd := s.head(s.next)
		if !atEnd {
			f.requeue(s) // there is more by now
			return nil
		}
		s.said(&r)
		if err := f.frame(&r); err != nil {
			return err
		}
	}
	f.arm(s)
	return nil
}

// atGoal tells whether there is nothing more for the subscription at an offset.
func (s *subscription) atGoal(next record.Offset) bool { return s.goal.end >= 0 && next >= s.goal.end }

// finish ends a subscription that is complete, or cannot be.
func (f *fetchStream) finish(s *subscription) error {
	f.drop(s)
	var r wire.FetchResponse
	switch {
	case s.goal.short != nil:
		r = f.failure(s, s.goal.short)
	case s.caughtUp:
		return nil
	default:
		r, _ = s.head(s.next)
		s.said(&r)
	}
	return f.frame(&r)
}

// arm lets the partition wake the subscription when there is more, or when it
// cannot be read here any longer.
func (f *fetchStream) arm(s *subscription) {
	f.mem.rest()
	f.mu.Lock()
	if s.state == over {
		f.mu.Unlock()
		return
	}
	s.state = armed
	f.mu.Unlock()
	if !s.reader.Notify(s, s.next) {
		s.Wake()
		return
	}
	f.mu.Lock()
	gone := s.state == over
	f.mu.Unlock()
	if gone { // unsubscribed before Notify: then Cancel found nothing
		s.part.Cancel(s)
	}
}

// drop takes a subscription out of the stream that is finished or has failed.
//
// REQUIRES: it is in send's hands.
func (f *fetchStream) drop(s *subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state != over {
		f.forget(s)
	}
}

// fail ends a subscription whose partition cannot be read, and says why.
func (f *fetchStream) fail(s *subscription, err error) error {
	err = f.unserved(s, err)
	if f.hold(s, err) || f.follow(s, err) {
		return nil
	}
	f.drop(s)
	r := f.failure(s, err)
	return f.frame(&r)
}

// failure makes the frame that ends a subscription.
func (f *fetchStream) failure(s *subscription, err error) wire.FetchResponse {
	if errors.Is(err, partition.ErrClosed) && f.s.metadata.Current().TopicByID(s.topic.ID) == nil {
		err = noTopic(s.topic.Name) // it was deleted
	}
	fault := f.s.faultAt(topicIDOf(s.topic), uint32(s.partition), err)
	f.s.metrics.fetchErrors.WithLabelValues(reasonLabel(fault.Reason)).Inc()
	r := wire.FetchResponse{SubscriptionID: s.id, Partition: s.partition, FirstOffset: s.next, NextOffset: s.next}
	if _, moved := errors.AsType[*partition.NotLeaderError](err); moved && s.topic != nil && fault.Leader.GetBrokerId() >= 0 {
		r.Reroute = &pb.Reroute{Topic: s.topic.Name, Partition: uint32(s.partition), Leader: fault.Leader}
	} else {
		r.Error = fault.RequestError()
	}
	return r
}
