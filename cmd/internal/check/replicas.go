package check

import (
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// replicas are the logs of a partition on its brokers, as they grow.
type replicas struct {
	scribe
	losses *faults
	// records tells which brokers write a history: one that has said nothing of
	// its log has none.
	records  map[int32]bool
	byBroker map[int32]*replica
	// setting is what the last leader has said of the partition.
	setting setting
	epoch   int32   // the greatest in which anybody began to lead
	since   int64   // faults before it do not take what is committed in it
	hw      mark    // the greatest of any leader
	held    holding // all below hw
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
	opened          bool // it has said where its log stands since its start
	harmed          bool // its disk may have lost what was synced
	power           power
	// told is what it had told a leader before it lost it: see counts.
	told told
}

// power says whether a broker has any.
type power uint8

const (
	powerOn    power = iota
	powerGoing       // it is about to be taken: what the broker says may be from before
	powerOff         // it says nothing until it begins again
)

// told is what a leader may count on though it is lost. What a replica told it
// may be on its way still, and a leader that is cut off cannot know of the loss.
// That ends when the replica opens a session with it, or the leader takes it in
// sync anew. Who begins to lead after the loss has been told nothing.
type told struct {
	end   int64
	epoch int32 // for leaders of this epoch, and of older ones
}

// counts is how far a leader of an epoch may take it that a replica has the log.
func (x *replica) counts(medium history.Medium, epoch int32) int64 {
	end := x.has(medium)
	if epoch <= x.told.epoch {
		end = max(end, x.told.end)
	}
	return end
}

func (x *replica) has(medium history.Medium) int64 {
	if medium == history.MediumMemory {
		return x.written
	}
	return x.synced
}

// on returns the log on a broker.
func (r *replicas) on(broker int32) *replica {
	x := r.byBroker[broker]
	if x == nil {
		if r.byBroker == nil {
			r.byBroker = map[int32]*replica{}
		}
		x = &replica{}
		r.byBroker[broker] = x
	}
	return x
}

// settings takes what a leader says of the partition. since is a time from
// before which no fault takes what is committed from now on.
func (r *replicas) settings(e *history.Event, broker int32, since int64) {
	x := r.on(broker)
	if e.Kind == history.LeaderBegin {
		r.succeeds(x, e, broker)
		x.leads, x.epoch = true, e.Replica.Epoch
		if x.epoch >= r.epoch {
			r.epoch, r.since = x.epoch, since
		}
	} else {
		for _, id := range e.Replica.ISR {
			if m := r.byBroker[id]; m != nil && m.power == powerOn && !slices.Contains(x.setting.isr, id) {
				m.told = told{}
			}
		}
	}
	x.setting = setting{e.Replica.ISR, e.Replica.MinISR, e.Replica.Medium, e.At}
	r.setting = x.setting
}

// succeeds looks for all that is committed at who begins to lead.
func (r *replicas) succeeds(x *replica, e *history.Event, broker int32) {
	if !x.opened || e.Replica.Epoch < r.epoch {
		return
	}
	r.judged(R15)
	if x.written < r.hw.n && !r.losses.release(r.held.since, r.held.medium, r.held.inSync) {
		r.violated(R15, at(r.hw.at, e.At), "broker %d begins to lead with its log at %d, and all below %d was committed", broker, x.written, r.hw.n)
	}
}

// hears takes that a leader is told anew, in a session, how far a replica is.
func (r *replicas) hears(e *history.Event) {
	m := r.byBroker[e.Replica.Of]
	if m == nil {
		return
	}
	switch epoch, end := e.Replica.Epoch, min(m.told.end, e.Replica.End); {
	case m.power == powerOff: // said before, and heard now
		m.told = told{end, max(m.told.epoch, epoch)}
	case epoch >= m.told.epoch:
		m.told.end = end
	}
}

// restarted takes that a broker has begun anew: it may know an older high
// watermark, and leads nothing.
func (r *replicas) restarted(broker int32) {
	x := r.byBroker[broker]
	if x == nil {
		return
	}
	if x.power == powerGoing {
		r.loseMemory(x)
	}
	x.hw, x.leads, x.opened, x.power = mark{}, false, false, powerOn
}

// loseMemory takes what is not on disk.
func (r *replicas) loseMemory(x *replica) {
	r.tell(x)
	x.written = x.synced
	if r.setting.medium == history.MediumMemory {
		x.hw, x.committed = mark{}, mark{}
	}
}

// tell notes what a replica has told leaders, before it loses it.
func (r *replicas) tell(x *replica) {
	end := x.has(r.setting.medium)
	if x.told.epoch == r.epoch {
		end = max(end, x.told.end)
	}
	x.told = told{end, r.epoch}
}

// grow takes how far a log is written, or synced.
func (r *replicas) grow(e *history.Event, broker int32) {
	x, end := r.on(broker), e.Replica.End
	if e.Kind == history.LogSynced {
		x.written, x.synced = max(x.written, end), max(x.synced, end)
		return
	}
	if !x.opened {
		x.opened = true
		r.recovered(x, e, broker)
	}
	x.written = max(x.written, end)
}

// recovered takes where a log stands that was opened.
func (r *replicas) recovered(x *replica, e *history.Event, broker int32) {
	r.judged(RecoveryCut)
	end := e.Replica.End
	if end < x.synced && !x.harmed {
		r.violated(RecoveryCut, at(e.At), "the log on broker %d was opened and ends at %d, and all below %d was synced", broker, end, x.synced)
	}
	if end < x.written {
		r.tell(x)
	}
	x.written, x.synced = end, min(x.synced, end)
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
	s := x.setting
	if hw > r.hw.n {
		r.hw = mark{hw, e.At}
		r.held = holding{s.medium, uint32(len(s.isr)), r.since}
	}
	if !advanced || len(s.isr) == 0 || e.Kind == history.LeaderBegin {
		return
	}
	if len(s.isr) < int(s.minISR) {
		r.violated(R15, at(s.at, e.At), "the high watermark went to %d with %d replicas in sync, of at least %d", hw, len(s.isr), s.minISR)
	}
	for _, id := range s.isr {
		var end int64
		switch m := r.byBroker[id]; {
		case m != nil:
			end = m.counts(s.medium, x.epoch)
		case !r.records[id]:
			continue
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
	case x.hw.at.Line > 0 && start > x.hw.n && (start <= x.written || start > p.hw.n):
		// Not one that begins again where the leader's log begins: it has not heard
		// of the high watermark.
		p.violated(StartMoves, at(x.hw.at, e.At), "the log on broker %d begins at %d, above its high watermark %d", broker, start, x.hw.n)
	}
	x.start.raise(start, e.At)
	p.logStart = max(p.logStart, start)
}

// gone takes that a broker has put its log away, and begins at most another.
func (r *replicas) gone(broker int32) {
	if x := r.byBroker[broker]; x != nil {
		r.tell(x)
		r.byBroker[broker] = &replica{told: x.told, power: x.power}
	}
}

// lost takes that a broker lost what it had.
func (r *replicas) lost(f *history.Fault) {
	x := r.byBroker[f.Broker]
	if x == nil {
		return
	}
	switch f.Kind {
	case history.FaultPower:
		x.power = powerGoing
	case history.FaultOff:
		if x.power == powerGoing {
			r.loseMemory(x)
			x.power = powerOff
		}
	case history.FaultDisk:
		x.written, x.synced, x.hw, x.committed = 0, 0, mark{}, mark{}
		x.opened, x.harmed = false, true
	case history.FaultKill: // takes nothing
	}
}
