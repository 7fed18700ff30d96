package check

import "github.com/millstream-io/millstream/cmd/internal/history"

// claim says that a piece is in the log at its place.
type claim struct {
	piece
	epoch   int32
	control bool
	// told says that it is committed: every claim but an acknowledgement of the
	// leader alone.
	told bool
	// delivered says that a client has got it; last that it comes from a read
	// or a dump that has to have everything.
	delivered, last bool
	at              history.Location
}

// place enters a claim, and says where it goes against others. It returns the
// piece that it is about, or nil if another one is there.
func (b *book) place(c *claim) *stored {
	b.judged(ValidLog)
	var found *stored
	for _, s := range b.overlapping(c.base, c.end) {
		if s.base == c.base && s.end == c.end && s.digest == c.digest {
			found = s
			continue
		}
		if b.replaceable(s, c) {
			b.log.Delete(s)
			continue
		}
		if !c.told && s.epoch > c.epoch {
			return nil // the leader alone had it, and is no longer leader
		}
		b.judged(R1)
		b.violated(R1, at(s.by, s.promise(), c.at), "[%d, %d) holds %016x, and [%d, %d) %016x", s.base, s.end, uint64(s.digest), c.base, c.end, uint64(c.digest))
		if c.last && s.promised {
			b.violated(R4, at(s.by, s.ack, c.at), "[%d, %d) is not what was acknowledged there", s.base, s.end)
		}
		return nil
	}
	if found == nil {
		found = b.enter(c)
	} else {
		b.judged(R1)
		if found.epoch != c.epoch {
			b.violated(ValidLog, at(found.promise(), c.at), "[%d, %d) is of epoch %d, and of epoch %d", c.base, c.end, found.epoch, c.epoch)
		}
	}
	if c.told && !found.told {
		found.told = true
		b.inTime(found, c)
	}
	found.delivered = found.delivered || c.delivered
	found.control = found.control || c.control
	return found
}

// replaceable tells whether a piece may have given way to what a claim says.
func (b *book) replaceable(s *stored, c *claim) bool {
	if !s.told && c.epoch > s.epoch {
		return true // the leader alone had it
	}
	return s.epoch < c.epoch && b.released(s)
}

// enter adds a piece that nobody has spoken of.
func (b *book) enter(c *claim) *stored {
	st := &stored{base: c.base, end: c.end, digest: c.digest, epoch: c.epoch, witness: c.at}
	b.log.ReplaceOrInsert(st)
	if c.control {
		return st
	}
	b.judged(R2)
	s := b.sends[c.digest]
	if s == nil {
		if failed, ok := b.failures[c.digest]; ok {
			b.violated(R6, at(failed, c.at), "the append failed, yet what it carried is at offset %d", c.base)
		} else if len(b.strange) < most || b.strange[c.digest] != nil {
			b.strange[c.digest] = append(b.strange[c.digest], st)
		} else {
			b.violated(R14, at(c.at), "offset %d was read before it was appended, as %d before", c.base, most)
		}
		return st
	}
	s.found++
	st.by, st.since, st.untold = s.at, s.since, s
	if !s.repeated {
		st.session, st.op = s.session, s.op
	}
	switch {
	case s.found > s.possible:
		b.violated(R2, at(s.at, c.at), "sent %d times, and in the log %d times: at %d too", s.possible, s.found, c.base)
	case s.found > 1:
		b.tally.Repeated++
	}
	b.settle(c.digest, s)
	return st
}

// inTime looks at where a piece is, once it is told: behind all that was there
// before it was asked for. What a leader alone acknowledges may be anywhere, for
// another leader may have gone on.
func (b *book) inTime(st *stored, c *claim) {
	s := st.untold
	if s == nil {
		return
	}
	st.untold = nil
	b.judged(R14)
	if st.base < s.after.n {
		b.violated(R14, at(s.after.at, s.at, c.at), "appended at %d, after all below %d was there", st.base, s.after.n)
	}
}
