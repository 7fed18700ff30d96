package check

import (
	"math"

	"github.com/google/btree"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// most bounds what is kept of things that a sound history has few of: gaps, and
// values that nobody has appended. What is beyond it is a violation itself.
const most = 10_000

// book is the log of a partition as the events tell it.
//
// Its pieces are batches; or single records, if the first append gives digests
// of them. Pieces never overlap.
type book struct {
	scribe
	faults *faults

	bySingle bool // pieces are records; meaningful once known is set
	known    bool
	log      *btree.BTreeG[*stored] // by base
	sends    map[history.Digest]*send
	failures map[history.Digest]history.Location
	strange  map[history.Digest][]*stored // read before anybody appended them

	// What later appends come after: the end of what was acknowledged or
	// delivered; and what later reads to the end reach: of what was
	// acknowledged. Each also for what only the loss of disks can undo.
	seen, seenOnDisk   mark
	acked, ackedOnDisk mark
	epoch              mark // the greatest epoch acknowledged at scope ISR

	gaps   []gap
	drains []drain

	logStart int64 // the greatest that a broker said it moved it to

	// What the last acknowledgement at scope ISR said: what is committed without
	// one is taken to be held alike.
	medium history.Medium
	inSync uint32
}

// mark is a number that only grows, and the event that made it what it is.
type mark struct {
	n  int64
	at history.Location
}

func (m *mark) raise(n int64, at history.Location) {
	if n > m.n {
		*m = mark{n, at}
	}
}

// stored is a piece of the log.
type stored struct {
	base, end int64
	digest    history.Digest
	epoch     int32
	promised  bool // acknowledged at scope ISR
	told      bool // known to be committed: promised, delivered or dumped
	delivered bool
	control   bool
	medium    history.Medium
	inSync    uint32
	since     int64 // when it was asked for; faults before do not matter
	acked     int64 // when it was acknowledged
	session   sessionKey
	op        uint64
	by        history.Location // who asked for it
	ack       history.Location // who promised it
	witness   history.Location // who said first that it is there
	untold    *send            // what it comes from, until it is told
}

// promise names the event that says most about a piece.
func (s *stored) promise() history.Location {
	if s.ack.Line > 0 {
		return s.ack
	}
	return s.witness
}

// send is a piece that may turn up in the log.
type send struct {
	open     int // operations that are not completed
	possible int // how often it may be in the log
	found    int // how often it is
	repeated bool
	after    mark // nothing of it may be before this offset
	epoch    mark // nor of an older epoch
	session  sessionKey
	op       uint64
	at       history.Location
	since    int64
}

// sessionKey names a session of a recorder.
type sessionKey struct {
	source  uint16
	session uint64
}

// piece is a part of a claim.
type piece struct {
	base, end int64
	digest    history.Digest
}

// gap is what somebody who went along the log did not get.
type gap struct {
	from, to int64
	rule     Rule // R8 within a frame, R9 between two; R4 in a dump
	at       history.Location
}

func newBook(s scribe, f *faults) book {
	return book{
		scribe: s, faults: f,
		log:      btree.NewG(32, func(a, b *stored) bool { return a.base < b.base }),
		sends:    map[history.Digest]*send{},
		failures: map[history.Digest]history.Location{},
		strange:  map[history.Digest][]*stored{},
		medium:   history.MediumMemory, inSync: 1,
	}
}

// pieces splits a batch as the book does. base is -1 if it is not known.
func (b *book) pieces(c *history.Content, base int64, at history.Location) []piece {
	if !b.bySingle || c.N == 1 && len(c.Digests) == 0 {
		return []piece{{base, base + int64(c.N), c.Digest}}
	}
	if len(c.Digests) == 0 {
		b.violated(Whole, []history.Location{at}, "the digests of the records are missing; the first append of the partition has them")
		return nil
	}
	out := make([]piece, c.N)
	for i, d := range c.Digests {
		out[i] = piece{base + int64(i), base + int64(i) + 1, d}
	}
	return out
}

// send takes an append that is invoked.
func (b *book) send(o *op, e *history.Event) {
	if !b.known {
		b.known, b.bySingle = true, len(o.Digests) > 0
	}
	for _, p := range b.pieces(&o.Content, 0, e.At) {
		s := b.sends[p.digest]
		if s == nil {
			s = &send{after: b.seen, epoch: b.epoch, session: o.session, op: o.number, at: e.At, since: o.since}
			b.sends[p.digest] = s
		} else {
			s.repeated = true
		}
		s.open++
		s.possible += int(o.Tries)
		s.repeated = s.repeated || o.Tries > 1
		o.sends = append(o.sends, s)
	}
}

// settle forgets a send that is over and was found as often as it may be.
func (b *book) settle(d history.Digest, s *send) {
	if s.open == 0 && s.found >= s.possible && b.sends[d] == s {
		delete(b.sends, d)
	}
}

// acknowledged takes an answer that says that a batch was appended.
func (b *book) acknowledged(o *op, e *history.Event) {
	base := e.Ack.Base
	promised := e.Ack.Scope == history.ScopeISR
	for i, p := range b.pieces(&o.Content, base, e.At) {
		s := o.sends[i]
		if e.Ack.Scope != history.ScopeNone {
			c := claim{piece: p, epoch: e.Ack.Epoch, at: e.At, told: promised}
			if st := b.place(&c); st != nil && promised {
				st.promised, st.ack = true, e.At
				st.medium, st.inSync, st.acked = e.Ack.Medium, e.Ack.InSync, e.T
				st.since = o.since
			}
		}
		s.open--
		b.settle(p.digest, s)
	}
	if !promised {
		return
	}
	if len(o.sends) > 0 {
		b.judged(R16)
		if s := o.sends[0]; int64(e.Ack.Epoch) < s.epoch.n {
			b.violated(R16, at(s.epoch.at, s.at, e.At), "acknowledged in epoch %d, though one of epoch %d was acknowledged before it was asked for", e.Ack.Epoch, s.epoch.n)
		}
	}
	b.medium, b.inSync = e.Ack.Medium, e.Ack.InSync
	end := base + int64(o.N)
	b.seen.raise(end, e.At)
	b.acked.raise(end, e.At)
	b.epoch.raise(int64(e.Ack.Epoch), e.At)
	if e.Ack.Medium == history.MediumDisk {
		b.seenOnDisk.raise(end, e.At)
		b.ackedOnDisk.raise(end, e.At)
	}
}

// failed takes an answer that says that a batch was not appended.
func (b *book) failed(o *op, e *history.Event) {
	b.judged(R6)
	for i, p := range b.pieces(&o.Content, 0, e.At) {
		s := o.sends[i]
		s.open--
		s.possible -= int(o.Tries)
		if s.found > s.possible {
			b.violated(R6, at(o.at, e.At), "the append failed, yet what it carried is in the log (digest %016x)", uint64(p.digest))
		}
		if s.possible <= 0 && s.found == 0 {
			b.failures[p.digest] = e.At
		}
		b.settle(p.digest, s)
	}
}

// unknown takes an answer that says nothing.
func (b *book) unknown(o *op) {
	for i, p := range b.pieces(&o.Content, 0, o.at) {
		o.sends[i].open--
		b.settle(p.digest, o.sends[i])
	}
}

// forget takes back what a fault may have undone.
func (b *book) forget(k history.FaultKind) {
	if k == history.FaultPower {
		b.seen, b.acked = b.seenOnDisk, b.ackedOnDisk
		return
	}
	b.seen, b.acked, b.seenOnDisk, b.ackedOnDisk = mark{}, mark{}, mark{}, mark{}
}

// missed takes note of offsets that somebody passed without getting them; drain
// is the index of what has to have everything, or -1.
func (b *book) missed(g gap, drain int) {
	if len(b.gaps) == most {
		b.violated(R11, at(g.at), "offsets [%d, %d) are missing, as in %d places before", g.from, g.to, most)
		return
	}
	b.gaps = append(b.gaps, g)
	if drain >= 0 {
		b.drains[drain].gaps = append(b.drains[drain].gaps, g)
	}
}

// overlapping returns the pieces that have offsets in [base, end), at most a
// few more than there can be without a violation.
func (b *book) overlapping(base, end int64) []*stored {
	var out []*stored
	b.log.DescendLessOrEqual(&stored{base: base}, func(s *stored) bool {
		if s.end > base {
			out = append(out, s)
		}
		return false
	})
	b.log.AscendRange(&stored{base: base + 1}, &stored{base: end}, func(s *stored) bool {
		out = append(out, s)
		return len(out) < most
	})
	return out
}

// all calls visit for each piece, in the order of the log.
func (b *book) all(visit func(*stored)) {
	b.log.AscendGreaterOrEqual(&stored{base: math.MinInt64}, func(s *stored) bool {
		visit(s)
		return true
	})
}
