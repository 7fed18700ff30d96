package check

import "github.com/millstream-io/millstream/cmd/internal/history"

// drain is a read, or the dump of a replica, that has to have everything that
// was acknowledged before it began.
type drain struct {
	began      int64 // time; what was acknowledged later may be missing
	from, next int64 // what it went through
	gaps       []gap
	start      int64 // of the log, as it was told
	dump       bool
	over       bool
	at         history.Location
}

// finish looks at what can be judged only at the end.
func (b *book) finish() {
	b.finishStrange()
	b.finishOrder()
	for i := range b.gaps {
		b.finishGap(&b.gaps[i])
	}
	b.finishDrains()
}

// finishStrange tells values that nobody had appended from those that are in
// the log more often than they were sent.
func (b *book) finishStrange() {
	if len(b.strange) == 0 {
		return
	}
	first := map[history.Digest]*stored{}
	b.all(func(s *stored) {
		if list := b.strange[s.digest]; list != nil && s.by.Line > 0 && first[s.digest] == nil {
			first[s.digest] = s
		}
	})
	for d, list := range b.strange {
		for _, s := range list {
			if f := first[d]; f != nil {
				b.violated(R2, at(f.by, f.promise(), s.witness), "in the log at %d and at %d", f.base, s.base)
			} else {
				b.violated(R14, at(s.witness), "at offset %d is %016x, which nobody had appended", s.base, uint64(d))
			}
		}
	}
}

// finishOrder goes along the log: epochs do not fall, and sessions are in
// order.
func (b *book) finishOrder() {
	var before *stored
	last := map[sessionKey]*stored{}
	b.all(func(s *stored) {
		if !s.told {
			return // a leader that is gone may have said so
		}
		if b.mayBeGone(s) {
			return // it may be gone, and the log have begun again below it
		}
		if s.promised && s.delivered {
			b.judged(R3)
		}
		if before != nil {
			b.judged(ValidLog)
			if s.epoch < before.epoch {
				b.violated(ValidLog, at(before.promise(), s.promise()), "epoch %d at offset %d follows epoch %d", s.epoch, s.base, before.epoch)
			}
		}
		before = s
		if s.session.session == 0 {
			return
		}
		if l := last[s.session]; l != nil {
			b.judged(R10)
			if s.op < l.op {
				b.violated(R10, at(s.by, l.by, s.promise(), l.promise()), "append %d of a session is at %d, and append %d, sent before it, at %d", l.op, l.base, s.op, s.base)
			}
		}
		last[s.session] = s
	})
}

// finishGap says what is missing in a gap.
func (b *book) finishGap(g *gap) {
	explained, missing := g.from, false
	var batch, promised *stored
	for _, s := range b.overlapping(g.from, g.to) {
		if s.control {
			missing = missing || s.base > explained
			explained = max(explained, s.end)
			continue
		}
		if !s.told || b.released(s) {
			continue
		}
		if batch == nil {
			batch = s
		}
		if s.promised && promised == nil {
			promised = s
		}
	}
	if missing || explained < g.to {
		b.violated(R11, at(g.at), "offsets of [%d, %d) are missing", g.from, g.to)
	}
	if batch != nil && g.rule != R4 {
		b.violated(g.rule, at(batch.promise(), g.at), "the reader passed [%d, %d), where there is a batch at %d", g.from, g.to, batch.base)
	}
	if promised != nil && g.rule != R4 {
		b.violated(R3, at(promised.by, promised.ack, g.at), "the batch acknowledged at %d was passed over", promised.base)
	}
}

// released tells whether a piece that is missing may be gone, and counts it
// then.
func (b *book) released(s *stored) bool {
	gone := b.mayBeGone(s)
	if gone {
		b.tally.Released++
	}
	return gone
}

// mayBeGone tells whether faults took all that its acknowledgement counted on.
func (b *book) mayBeGone(s *stored) bool {
	medium, inSync := s.medium, s.inSync
	if !s.promised {
		medium, inSync = b.medium, b.inSync
	}
	return b.faults.release(s.since, medium, inSync)
}

// finishDrains looks for everything acknowledged in all that has to have it.
func (b *book) finishDrains() {
	read := false           // there is a last read
	var began, start int64  // of the last of those that ended
	var by history.Location // where that is
	for _, d := range b.drains {
		read = read || !d.dump
		if !d.over {
			if !d.dump {
				b.violated(R5, at(d.at), "the last read did not end")
			}
			continue
		}
		if !d.dump && d.began >= began {
			began, start, by = d.began, d.start, d.at
		}
		b.finishDrain(&d)
	}
	if !read {
		return
	}
	b.all(func(s *stored) {
		if !s.promised || s.acked >= began || s.base < start {
			return
		}
		b.judged(R5)
		if !s.delivered && !b.released(s) {
			b.violated(R5, at(s.by, s.ack, by), "the batch acknowledged at %d was never delivered", s.base)
		}
	})
}

// finishDrain looks for everything acknowledged in one of them.
func (b *book) finishDrain(d *drain) {
	if d.from > d.start {
		b.violated(R4, at(d.at), "it begins at %d, and the log at %d", d.from, d.start)
	}
	if d.start > b.logStart {
		b.violated(R4, at(d.at), "the log begins at %d, and nothing says that it was moved beyond %d", d.start, b.logStart)
	}
	gaps := d.gaps
	b.all(func(s *stored) {
		if !s.promised || s.acked >= d.began || s.base < d.start {
			return
		}
		b.judged(R4)
		for len(gaps) > 0 && gaps[0].to <= s.base {
			gaps = gaps[1:]
		}
		lost := s.end > d.next || s.base < d.from || len(gaps) > 0 && gaps[0].from < s.end
		if lost && !b.released(s) {
			b.violated(R4, at(s.by, s.ack, d.at), "the batch acknowledged at %d is missing", s.base)
		}
	})
}
