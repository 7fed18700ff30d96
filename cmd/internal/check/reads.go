package check

import "github.com/millstream-io/millstream/cmd/internal/history"

// readers are those of a partition.
type readers struct {
	byKey map[readerKey]*reader
}

// readerKey names a reader.
type readerKey struct {
	source uint16
	reader uint64
}

// reader is where a reader is.
type reader struct {
	began    history.Location
	since    int64 // faults before it do not take what the reader is told
	position history.Position
	untilEnd bool
	asked    mark // what a read to the end has to reach: acknowledged before it began
	drain    int  // index of its drain; -1: none

	open   bool
	framed bool  // a frame has come since it began
	pos    int64 // next offset; meaningful if placed
	placed bool
	freed  bool // an error has said that the place is no longer there
	hw     mark
	held   holding // all below hw
	start  mark
}

// holding is by whom something is held.
type holding struct {
	medium history.Medium
	inSync uint32
	since  int64 // faults before do not matter
}

// beginRead takes that a reader takes a position. What it is told from there on
// may be gone by faults since a time; see Checker.since.
func (p *partition) beginRead(e *history.Event, since int64) {
	key := readerKey{e.At.Source, e.Read.Reader}
	r := p.byKey[key]
	if r == nil {
		r = &reader{}
		if p.byKey == nil {
			p.byKey = map[readerKey]*reader{}
		}
		p.byKey[key] = r
	} else if r.placed && !r.freed && !e.Read.Seek {
		p.judged(R23)
		if e.Read.Position != history.AtOffset || e.Read.From != r.pos {
			p.violated(R23, at(r.began, e.At), "the reader was at %d, and begins elsewhere without an error", r.pos)
		}
	}
	r.began, r.since, r.position, r.untilEnd = e.At, since, e.Read.Position, e.Read.UntilEnd
	r.asked, r.drain = p.acked, -1
	r.open, r.framed, r.freed = true, false, false
	r.pos, r.placed = e.Read.From, e.Read.Position == history.AtOffset
	if e.Read.Drain {
		r.drain = len(p.drains)
		p.drains = append(p.drains, drain{began: e.T, at: e.At})
	}
}

// reading returns the reader of an event that only one that has begun can see.
func (p *partition) reading(e *history.Event) *reader {
	r := p.byKey[readerKey{e.At.Source, e.Read.Reader}]
	if r == nil || !r.open {
		p.violated(Whole, at(e.At), "%s: reader %d has not begun", e.Kind, e.Read.Reader)
		return nil
	}
	return r
}

// frame takes what a reader gets.
func (p *partition) frame(e *history.Event) {
	r := p.reading(e)
	if r == nil {
		return
	}
	from := e.Read.From
	p.enterFrame(r, e, from)
	cursor := from
	for i := range e.Batches {
		b := &e.Batches[i]
		end := b.Base + int64(b.N)
		if i > 0 {
			p.judged(R8)
		}
		switch {
		case b.Base > cursor:
			p.pass(r, gap{cursor, b.Base, R8, e.At})
		case b.Base < cursor && i > 0:
			p.violated(R8, at(e.At), "a frame has [%d, %d) after offset %d", b.Base, end, cursor-1)
		case end <= from:
			p.violated(R9, at(e.At), "a frame from %d has [%d, %d)", from, b.Base, end)
		}
		p.judged(R15)
		if end > e.Read.HighWatermark {
			p.violated(R15, at(e.At), "[%d, %d) was delivered at high watermark %d", b.Base, end, e.Read.HighWatermark)
		}
		p.claims(b, claim{told: true, delivered: !b.Control, last: r.drain >= 0, at: e.At})
		cursor = max(cursor, end)
	}
	p.judged(R11)
	switch {
	case e.Read.Next > cursor:
		p.pass(r, gap{cursor, e.Read.Next, R8, e.At})
	case e.Read.Next < cursor:
		p.violated(R9, at(e.At), "a frame goes to offset %d and says that the next begins at %d", cursor, e.Read.Next)
	}
	r.pos, r.placed = max(cursor, e.Read.Next), true
	p.seen.raise(cursor, e.At)
	p.told(r, e)
}

// claims enters what is in a batch.
func (p *partition) claims(b *history.Batch, c claim) {
	c.epoch, c.control = b.Epoch, b.Control
	pieces := []piece{{b.Base, b.Base + int64(b.N), b.Digest}}
	if !b.Control {
		pieces = p.pieces(&b.Content, b.Base, c.at)
	}
	for _, c.piece = range pieces {
		p.place(&c)
	}
}

// enterFrame looks at where a frame begins.
func (p *partition) enterFrame(r *reader, e *history.Event, from int64) {
	first := !r.framed
	r.framed = true
	if first && r.drain >= 0 {
		d := &p.drains[r.drain]
		d.from, d.start = from, e.Read.LogStart
	}
	switch {
	case first && r.position == history.AtEarliest:
		p.judged(R23)
		if from != e.Read.LogStart {
			p.violated(R23, at(r.began, e.At), "the earliest record was asked for, which is at %d, and the first frame begins at %d", e.Read.LogStart, from)
		}
	case first && r.placed:
		p.judged(R23)
		if from != r.pos {
			p.violated(R23, at(r.began, e.At), "offset %d was asked for, and the first frame begins at %d", r.pos, from)
		}
	case first:
	case from > r.pos:
		p.judged(R9)
		p.pass(r, gap{r.pos, from, R9, e.At})
	default:
		p.judged(R9)
		if from < r.pos {
			p.violated(R9, at(e.At), "the reader was at %d, and the next frame begins at %d", r.pos, from)
		}
	}
}

// pass takes note of what a reader was not given.
func (p *partition) pass(r *reader, g gap) {
	p.missed(g, r.drain)
}

// told looks at what a frame says of the log as a whole.
func (p *partition) told(r *reader, e *history.Event) {
	p.judged(R15)
	p.judged(StartMoves)
	hw, start := e.Read.HighWatermark, e.Read.LogStart
	if hw < r.hw.n && p.faults.release(r.held.since, r.held.medium, r.held.inSync) { // the log may have begun again below it
		r.hw = mark{}
	}
	if hw < r.hw.n {
		p.violated(R15, at(r.hw.at, e.At), "the high watermark was %d, and is %d", r.hw.n, hw)
	} else {
		r.held = p.holds(r.since)
	}
	if r.pos > hw {
		p.violated(R15, at(e.At), "the next offset is %d, above the high watermark %d", r.pos, hw)
	}
	if start < r.start.n {
		p.violated(StartMoves, at(r.start.at, e.At), "the log began at %d, and begins at %d", r.start.n, start)
	}
	r.hw.raise(hw, e.At)
	r.start.raise(start, e.At)
}

// holds returns by whom what is committed is held now: by those in sync, as the
// leader says it, or else the last acknowledgement.
func (p *partition) holds(since int64) holding {
	if n := len(p.setting.isr); n > 0 {
		return holding{p.setting.medium, uint32(n), since}
	}
	return holding{p.medium, p.inSync, since}
}

// endRead takes that a reader was told that it is at the end.
func (p *partition) endRead(e *history.Event) {
	r := p.reading(e)
	if r == nil {
		return
	}
	if r.placed && e.Read.Next != r.pos {
		p.judged(R9)
		if e.Read.Next > r.pos {
			p.pass(r, gap{r.pos, e.Read.Next, R9, e.At})
		} else {
			p.violated(R9, at(e.At), "the reader was at %d, and is told that it is at the end at %d", r.pos, e.Read.Next)
		}
	}
	r.pos, r.placed = e.Read.Next, true
	if !e.Read.Finished {
		return
	}
	r.open = false
	if r.untilEnd {
		p.judged(R14)
		if e.Read.Next < r.asked.n {
			p.violated(R14, at(r.asked.at, r.began, e.At), "a read to the end ended at %d, and all below %d was acknowledged before it began", e.Read.Next, r.asked.n)
		}
	}
	if r.drain >= 0 {
		d := &p.drains[r.drain]
		d.over, d.next = true, e.Read.Next
		if !r.framed {
			d.from, d.start = e.Read.From, e.Read.LogStart
		}
	}
}

// failRead takes that a read ended with an error.
func (p *partition) failRead(e *history.Event) {
	r := p.reading(e)
	if r == nil {
		return
	}
	r.open = false
	if e.Reason == ReasonOutOfRange || e.Reason == ReasonDiverged {
		r.freed, r.hw, r.start = true, mark{}, mark{}
	}
}

// The reasons of an error that say to a reader that its place is gone; they
// are the API's.
const (
	ReasonOutOfRange = "OFFSET_OUT_OF_RANGE"
	ReasonDiverged   = "DIVERGED"
)
