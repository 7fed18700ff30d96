package check

import (
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// replicas are the logs of a partition on its brokers, as they grow.
type replicas struct {
	scribe
	byBroker map[int32]*replica
	// setting is what the last leader has said of the partition.
	setting setting
	hw      mark // the greatest of any leader
}

// setting is what a partition promises.
type setting struct {
	isr    []int32
	minISR uint32
	medium history.Medium
	at     history.Location
}

// replica is the log on one broker.
type replica struct {
	written, synced int64
	hw              mark // as the broker knows it since its start
	committed       mark // the greatest high watermark that it has ever known
	start           mark
	setting         setting // what this broker, as leader, has said
	epoch           int32   // in which it leads or led
	leads           bool
	// off says that it lost power and has not begun again, back that it has, and
	// has not said yet where its log stands. What it has told a leader before may
	// be on its way still, and one that is cut off cannot know that it began
	// again: they rightly count on it. Who takes it in sync anew does not.
	off, back bool
}

// on returns the log on a broker that says something of it.
func (r *replicas) on(broker int32) *replica {
	x := r.byBroker[broker]
	if x == nil {
		if r.byBroker == nil {
			r.byBroker = map[int32]*replica{}
		}
		x = &replica{}
		r.byBroker[broker] = x
	}
	if x.back {
		x.loseMemory(r.setting.medium)
	}
	return x
}

// settings takes what a leader says of the partition.
func (r *replicas) settings(e *history.Event, broker int32) {
	x := r.on(broker)
	for _, id := range e.Replica.ISR {
		m := r.byBroker[id]
		if m != nil && m.back && (e.Kind == history.LeaderBegin || !slices.Contains(x.setting.isr, id)) {
			m.loseMemory(r.setting.medium)
		}
	}
	x.setting = setting{e.Replica.ISR, e.Replica.MinISR, e.Replica.Medium, e.At}
	if e.Kind == history.LeaderBegin {
		x.leads, x.epoch = true, e.Replica.Epoch
	}
	r.setting = x.setting
}

// restarted takes that a broker has begun anew: it may know an older high
// watermark, and leads nothing.
func (r *replicas) restarted(broker int32) {
	x := r.byBroker[broker]
	if x == nil {
		return
	}
	x.hw, x.leads = mark{}, false
	x.off, x.back = false, x.back || x.off
}

// loseMemory takes what is not on disk.
func (x *replica) loseMemory(medium history.Medium) {
	x.back = false
	x.written = x.synced
	if medium == history.MediumMemory {
		x.hw, x.committed = mark{}, mark{}
	}
}

// grow takes how far a log is written, or synced.
func (r *replicas) grow(e *history.Event, broker int32) {
	x := r.on(broker)
	x.written = max(x.written, e.Replica.End)
	if e.Kind == history.LogSynced {
		x.synced = max(x.synced, e.Replica.End)
	}
}

// shorten takes that a log was truncated, or cut when it was recovered.
func (r *replicas) shorten(e *history.Event, broker int32) {
	x := r.on(broker)
	r.judged(RecoveryCut)
	to := e.Replica.To
	switch {
	case to > e.Replica.From:
		r.violated(RecoveryCut, at(e.At), "%s from %d to %d", e.Kind, e.Replica.From, to)
	case e.Kind == history.LogCut && to < x.synced:
		r.violated(RecoveryCut, at(e.At), "recovery on broker %d cut to %d, and all below %d was synced", broker, to, x.synced)
	case to < x.committed.n:
		r.violated(RecoveryCut, at(x.committed.at, e.At), "broker %d cut its log to %d, and knew the high watermark %d", broker, to, x.committed.n)
	}
	x.written, x.synced = min(x.written, to), min(x.synced, to)
	if x.hw.n > to {
		x.hw, x.committed = mark{to, e.At}, mark{to, e.At}
	}
}

// moveHighWatermark takes the high watermark as a broker knows it.
func (r *replicas) moveHighWatermark(e *history.Event, broker int32) {
	x := r.on(broker)
	r.judged(R15)
	hw := e.Replica.HighWatermark
	if hw < x.hw.n {
		r.violated(R15, at(x.hw.at, e.At), "the high watermark on broker %d was %d, and is %d", broker, x.hw.n, hw)
	}
	advanced := hw > x.hw.n
	x.hw.raise(hw, e.At)
	x.committed.raise(hw, e.At)
	if !x.leads || e.Replica.Epoch != x.epoch {
		if r.setting.at.Line > 0 && hw > r.hw.n {
			r.violated(R15, at(r.setting.at, r.hw.at, e.At), "broker %d follows, and its high watermark %d is above the leader's, %d", broker, hw, r.hw.n)
		}
		return
	}
	r.hw.raise(hw, e.At)
	s := x.setting
	if !advanced || len(s.isr) == 0 || e.Kind == history.LeaderBegin {
		return
	}
	if len(s.isr) < int(s.minISR) {
		r.violated(R15, at(s.at, e.At), "the high watermark went to %d with %d replicas in sync, of at least %d", hw, len(s.isr), s.minISR)
	}
	for _, id := range s.isr {
		m, ok := r.byBroker[id]
		if !ok {
			continue // it writes no history
		}
		end := m.synced
		if s.medium == history.MediumMemory {
			end = m.written
		}
		if end < hw {
			r.violated(R15, at(s.at, e.At), "the high watermark went to %d, and broker %d, which is in sync, is at %d", hw, id, end)
		}
	}
}

// durable looks for the syncs before an acknowledgement on disk.
func (r *replicas) durable(o *op, e *history.Event) {
	end := e.Ack.Base + int64(o.N)
	synced, recorded := 0, false
	for _, x := range r.byBroker {
		recorded = recorded || x.written > 0 || x.synced > 0
		if x.synced >= end {
			synced++
		}
	}
	if !recorded {
		return // nobody says how far logs are
	}
	r.judged(R25)
	if least := max(1, int(r.setting.minISR)); synced < least {
		r.violated(R25, at(o.at, e.At), "[%d, %d) is acknowledged on disk, and %d brokers have synced it, of at least %d", e.Ack.Base, end, synced, least)
	}
}

// moveStart takes that a broker keeps a log from a later offset on.
func (p *partition) moveStart(e *history.Event, broker int32) {
	x := p.on(broker)
	p.judged(StartMoves)
	start := e.Replica.Start
	switch {
	case start < x.start.n:
		p.violated(StartMoves, at(x.start.at, e.At), "the log on broker %d began at %d, and begins at %d", broker, x.start.n, start)
	case x.hw.at.Line > 0 && start > x.hw.n:
		p.violated(StartMoves, at(x.hw.at, e.At), "the log on broker %d begins at %d, above its high watermark %d", broker, start, x.hw.n)
	}
	x.start.raise(start, e.At)
	p.logStart = max(p.logStart, start)
}

// gone takes that a broker has put its log away, and begins at most another.
func (r *replicas) gone(broker int32) { delete(r.byBroker, broker) }

// lost takes that a broker lost what it had.
func (r *replicas) lost(f *history.Fault) {
	x := r.byBroker[f.Broker]
	if x == nil {
		return
	}
	switch f.Kind {
	case history.FaultPower:
		x.off = true // see restarted
	case history.FaultDisk:
		x.written, x.synced, x.hw, x.committed = 0, 0, mark{}, mark{}
	case history.FaultKill: // takes nothing
	}
}
