package check

import (
	"cmp"
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// dumps are the logs of the replicas of a partition as they are at the end.
type dumps struct {
	scribe
	byBroker map[int32]*dump
}

// dump is the log of one replica, up to the high watermark that it knows.
type dump struct {
	broker          int32
	start, cleanEnd int64
	hw              int64
	end             int64 // of what was dumped
	stamps          []stamp
	drain           int // index
	over            bool
	at              history.Location
}

// stamp is what replicas have in common of a batch.
type stamp struct {
	base, end int64
	crc       uint32
	epoch     int32
	at        history.Location
}

// dumped takes a piece of a dump.
func (p *partition) dumped(e *history.Event, broker int32) {
	d := p.dumps.byBroker[broker]
	if d == nil || d.over {
		d = &dump{
			broker: broker, start: e.Replica.Start, cleanEnd: e.Replica.CleanEnd, hw: e.Replica.HighWatermark,
			end: e.Replica.Start, drain: -1, at: e.At,
		}
		if p.dumps.byBroker == nil {
			p.dumps.byBroker = map[int32]*dump{}
		}
		p.dumps.byBroker[broker] = d
		if e.Replica.InSync {
			d.drain = len(p.drains)
			p.drains = append(p.drains, drain{began: e.T, from: d.start, start: d.start, dump: true, at: e.At})
		}
	}
	p.judged(R11)
	for i := range e.Batches {
		p.dumpedBatch(d, &e.Batches[i], e)
	}
	if e.Replica.Last {
		d.over = true
		if d.drain >= 0 {
			p.drains[d.drain].over, p.drains[d.drain].next = true, d.end
		}
	}
}

func (p *partition) dumpedBatch(d *dump, b *history.Batch, e *history.Event) {
	end := b.Base + int64(b.N)
	switch {
	case b.Base < d.end && d.end > d.start:
		p.violated(ValidLog, at(e.At), "on broker %d, [%d, %d) stands behind offset %d", d.broker, b.Base, end, d.end-1)
	case b.Base > d.end && b.Base < d.hw:
		p.missed(gap{d.end, b.Base, R4, e.At}, d.drain)
	}
	d.end = max(d.end, end)
	if end > d.hw {
		return // not committed: it need not be there
	}
	p.claims(b, claim{told: true, last: d.drain >= 0, at: e.At})
	if b.CRC != 0 {
		d.stamps = append(d.stamps, stamp{b.Base, end, b.CRC, b.Epoch, e.At})
	}
}

// finish compares each dump with the first.
func (d *dumps) finish() {
	all := make([]*dump, 0, len(d.byBroker))
	for _, x := range d.byBroker {
		if x.over {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b *dump) int { return cmp.Compare(a.broker, b.broker) })
	for i := 1; i < len(all); i++ {
		d.compare(all[0], all[i])
	}
}

// compare goes along two dumps, over what both have to have: nothing that one
// of them has compacted or does not know to be committed.
func (d *dumps) compare(a, b *dump) {
	from := max(a.start, b.start, a.cleanEnd, b.cleanEnd)
	to := min(a.hw, b.hw, a.end, b.end)
	within := func(stamps []stamp) []stamp {
		i, _ := slices.BinarySearchFunc(stamps, from, func(s stamp, o int64) int { return cmp.Compare(s.base, o) })
		j, _ := slices.BinarySearchFunc(stamps, to, func(s stamp, o int64) int { return cmp.Compare(s.end, o+1) })
		return stamps[i:max(i, j)]
	}
	x, y := within(a.stamps), within(b.stamps)
	for len(x) > 0 && len(y) > 0 {
		d.judged(R17)
		switch s, t := x[0], y[0]; {
		case s.base < t.base:
			d.violated(R17, at(s.at, b.at), "broker %d has [%d, %d), and broker %d has not", a.broker, s.base, s.end, b.broker)
			x = x[1:]
			continue
		case t.base < s.base:
			d.violated(R17, at(a.at, t.at), "broker %d has [%d, %d), and broker %d has not", b.broker, t.base, t.end, a.broker)
			y = y[1:]
			continue
		case s.end != t.end || s.crc != t.crc || s.epoch != t.epoch:
			d.violated(R17, at(s.at, t.at), "[%d, %d) of epoch %d has CRC %08x on broker %d; [%d, %d) of epoch %d has %08x on broker %d",
				s.base, s.end, s.epoch, s.crc, a.broker, t.base, t.end, t.epoch, t.crc, b.broker)
		}
		x, y = x[1:], y[1:]
	}
	for _, s := range x {
		d.violated(R17, at(s.at, b.at), "broker %d has [%d, %d), and broker %d has not", a.broker, s.base, s.end, b.broker)
	}
	for _, t := range y {
		d.violated(R17, at(a.at, t.at), "broker %d has [%d, %d), and broker %d has not", b.broker, t.base, t.end, a.broker)
	}
}
