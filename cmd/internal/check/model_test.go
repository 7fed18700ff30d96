package check

import (
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// The recorders of the model: a client, three brokers, the driver.
const (
	client = 0
	driver = 4
)

func modelRecorders() []history.Recorder {
	return []history.Recorder{
		{Name: "client", Role: history.RoleClient},
		{Name: "broker-1", Role: history.RoleBroker, Broker: 1},
		{Name: "broker-2", Role: history.RoleBroker, Broker: 2},
		{Name: "broker-3", Role: history.RoleBroker, Broker: 3},
		{Name: "driver", Role: history.RoleDriver},
	}
}

// chooser decides what happens next.
type chooser interface{ IntN(n int) int }

// model is a tiny cluster of one partition that keeps every promise, and writes
// down what its clients and brokers do.
type model struct {
	chooser
	events []history.Event
	lines  [5]uint32
	later  int64 // is added to all times

	log     [4][]history.Batch // by broker, from 1
	synced  [4]int64
	hw      [4]int64 // as the broker knows it
	known   [4]int64 // the greatest since its start that it wrote down
	leader  int
	epoch   int32
	elected int64 // the end of the log when the leader began
	start   int64

	states []modelState
	told   [4]int64 // the revision up to which a broker was told of the metadata

	op      uint64
	waiting []waiting
	readers map[uint64]*modelReader
}

// waiting is an append that is in the leader's log and not answered.
type waiting struct {
	op   uint64
	base int64
	end  int64
}

type modelReader struct {
	open     bool
	untilEnd bool
	pos      int64
}

func newModel(c chooser) *model {
	m := &model{chooser: c, leader: 1, readers: map[uint64]*modelReader{}}
	m.change(func(*modelState) {})
	m.lead(1)
	return m
}

// say writes an event down.
func (m *model) say(source int, e history.Event) {
	m.lines[source]++
	e.T = int64(len(m.events)) + 1 + m.later
	e.Topic = "t"
	e.At = history.Location{Source: uint16(source), Line: m.lines[source]}
	m.events = append(m.events, e)
}

func (m *model) broker(b int, k history.Kind, r history.Replica) {
	m.say(b, history.Event{Kind: k, Replica: &r})
}

func end(log []history.Batch, start int64) int64 {
	if len(log) == 0 {
		return start
	}
	b := log[len(log)-1]
	return b.Base + int64(b.N)
}

func (m *model) end(b int) int64 { return end(m.log[b], 0) }

// lead makes a broker the leader of a new epoch.
func (m *model) lead(b int) {
	m.leader = b
	m.epoch++
	m.elected = m.end(b)
	m.change(func(s *modelState) {
		s.record.Revision, s.record.Epoch = s.revision, s.record.Epoch+1
		s.record.Leader, s.record.LeaderEpoch = int32(b), m.epoch
		s.record.ISR, s.record.Replicas = []int32{1, 2, 3}, []int32{1, 2, 3}
	})
	m.tell(b)
	m.broker(b, history.LeaderBegin, history.Replica{
		Epoch: m.epoch, PartitionEpoch: m.now().record.Epoch, HighWatermark: m.hw[b], ISR: []int32{1, 2, 3}, MinISR: 2, Medium: history.MediumDisk,
	})
	m.known[b] = max(m.known[b], m.hw[b])
}

// append lets the client append, and the leader take it.
func (m *model) append() {
	m.op++
	n := uint32(1 + m.IntN(3))
	acks := history.AcksAll
	switch m.IntN(10) {
	case 0:
		acks = history.AcksLeader
	case 1:
		acks = history.AcksNone
	}
	c := history.Content{N: n, Digest: history.Digest(1000 + m.op)}
	op := m.op
	m.say(client, history.Event{Kind: history.AppendInvoke, Op: op, Append: &history.Append{
		Content: c, Session: 1 + uint64(m.IntN(2)), Acks: acks,
	}})
	if m.IntN(12) == 0 {
		m.say(client, history.Event{Kind: history.AppendFail, Op: op, Reason: "DISK_FULL"})
		return
	}
	l := m.leader
	base := m.end(l)
	m.log[l] = append(m.log[l], history.Batch{Base: base, Epoch: m.epoch, CRC: uint32(7000+op) ^ uint32(m.epoch), Content: c})
	m.broker(l, history.LogWritten, history.Replica{End: m.end(l)})
	leader := int32(l)
	switch {
	case m.IntN(15) == 0:
		m.say(client, history.Event{Kind: history.AppendUnknown, Op: op, Reason: "UNAVAILABLE"})
	case acks == history.AcksNone:
		m.say(client, history.Event{Kind: history.AppendOK, Op: op, Ack: &history.Ack{Scope: history.ScopeNone, Medium: history.MediumNone}})
	case acks == history.AcksLeader:
		m.say(client, history.Event{Kind: history.AppendOK, Op: op, Ack: &history.Ack{
			Scope: history.ScopeLeader, Medium: history.MediumMemory, InSync: 3, Base: base, Epoch: m.epoch, Leader: &leader,
		}})
	default:
		m.waiting = append(m.waiting, waiting{op, base, base + int64(n)})
	}
}

// replicate brings a follower up to the leader.
func (m *model) replicate(b int) {
	if b == m.leader || m.end(b) == m.end(m.leader) {
		return
	}
	m.log[b] = slices.Clone(m.log[m.leader])
	m.broker(b, history.LogWritten, history.Replica{End: m.end(b)})
	m.broker(b, history.HighWatermark, history.Replica{Epoch: m.epoch, HighWatermark: max(m.known[b], m.hw[m.leader])})
	m.hw[b] = max(m.hw[b], m.hw[m.leader])
	m.known[b] = max(m.known[b], m.hw[b])
}

// sync syncs a log, and commits what that allows.
func (m *model) sync(b int) {
	if m.synced[b] == m.end(b) {
		return
	}
	m.synced[b] = m.end(b)
	m.broker(b, history.LogSynced, history.Replica{End: m.synced[b]})
	m.commit()
}

// commit lets the leader commit what all have synced, and acknowledge it.
func (m *model) commit() {
	hw := min(m.synced[1], m.synced[2], m.synced[3])
	l := m.leader
	if hw <= m.hw[l] {
		return
	}
	m.hw[l], m.known[l] = hw, hw
	m.broker(l, history.HighWatermark, history.Replica{Epoch: m.epoch, HighWatermark: hw})
	leader := int32(l)
	for len(m.waiting) > 0 && m.waiting[0].end <= hw {
		w := m.waiting[0]
		m.waiting = m.waiting[1:]
		m.say(client, history.Event{Kind: history.AppendOK, Op: w.op, Ack: &history.Ack{
			Scope: history.ScopeISR, Medium: history.MediumDisk, InSync: 3, Base: w.base, Epoch: m.epoch, Leader: &leader,
		}})
	}
}

// failOver ends the leader; the others give up what the new one does not have.
func (m *model) failOver() {
	m.broker(m.leader, history.LeaderEnd, history.Replica{Epoch: m.epoch})
	for _, w := range m.waiting {
		m.say(client, history.Event{Kind: history.AppendUnknown, Op: w.op, Reason: "LEADER_UNAVAILABLE"})
	}
	m.waiting = nil
	m.lead(1 + (m.leader+m.IntN(2))%3)
	for b := 1; b <= 3; b++ {
		common := 0
		for common < min(len(m.log[b]), len(m.log[m.leader])) && m.log[b][common].CRC == m.log[m.leader][common].CRC {
			common++
		}
		if common < len(m.log[b]) {
			from := m.end(b)
			m.log[b] = m.log[b][:common]
			m.synced[b] = min(m.synced[b], m.end(b))
			m.broker(b, history.LogTruncated, history.Replica{From: from, To: m.end(b)})
		}
	}
}

// power cuts a follower: it comes back with what it had synced.
func (m *model) power(b int) {
	if b == m.leader {
		return
	}
	m.say(driver, history.Event{Kind: history.FaultBegin, Fault: &history.Fault{Kind: history.FaultPower, Broker: int32(b)}})
	m.say(b, history.Event{Kind: history.BrokerStart})
	m.told[b] = 0
	m.tell(b)
	m.hw[b] /= 2 // as an older checkpoint says
	m.known[b] = m.hw[b]
	m.broker(b, history.HighWatermark, history.Replica{Epoch: m.epoch, HighWatermark: m.hw[b]})
	if from := m.end(b); from > m.synced[b] {
		for m.end(b) > m.synced[b] {
			m.log[b] = m.log[b][:len(m.log[b])-1]
		}
		m.broker(b, history.LogCut, history.Replica{From: from, To: m.end(b)})
	}
	m.broker(b, history.LogWritten, history.Replica{End: m.end(b)})
	m.say(driver, history.Event{Kind: history.FaultEnd, Fault: &history.Fault{Kind: history.FaultPower, Broker: int32(b)}})
}

// trim moves the start of the log.
func (m *model) trim() {
	l := m.leader
	for _, b := range m.log[l] {
		if b.Base > m.start && b.Base <= min(m.hw[1], m.hw[2], m.hw[3]) && m.IntN(3) == 0 {
			m.start = b.Base
			for b := 1; b <= 3; b++ {
				m.broker(b, history.LogStart, history.Replica{Start: m.start})
			}
			return
		}
	}
}

// read lets a reader take a frame. Reader 3 reads to the end, and anew.
func (m *model) read(id uint64, most int, drain bool) (over bool) {
	hw := m.hw[m.leader]
	if hw < m.elected {
		return true // the leader does not know yet what is committed
	}
	r := m.readers[id]
	fresh := r == nil
	if fresh {
		r = &modelReader{}
		m.readers[id] = r
	}
	if !r.open {
		read := history.Read{Reader: id, From: r.pos, UntilEnd: id >= 3, Drain: drain}
		switch {
		case fresh || r.pos < m.start:
			// Reader 3 had finished; another one is here because an error said so.
			read.Position, read.From, read.Seek, r.pos = history.AtEarliest, 0, id == 3, m.start
		case id == 3:
			read.From, read.Seek, r.pos = m.start, true, m.start
		}
		r.open, r.untilEnd = true, read.UntilEnd
		m.say(client, history.Event{Kind: history.ReadBegin, Read: &read})
	}
	if r.pos < m.start {
		m.say(client, history.Event{Kind: history.ReadFail, Reason: ReasonOutOfRange, Read: &history.Read{Reader: id}})
		r.open = false
		return false
	}
	frame := history.Read{Reader: id, From: r.pos, HighWatermark: hw, LogStart: m.start}
	var batches []history.Batch
	for _, b := range m.log[m.leader] {
		if b.Base >= r.pos && b.Base+int64(b.N) <= hw && len(batches) < most {
			batches = append(batches, b)
		}
	}
	if len(batches) == 0 {
		m.say(client, history.Event{Kind: history.ReadEnd, Read: &history.Read{Reader: id, From: r.pos, Next: r.pos, LogStart: m.start, Finished: r.untilEnd}})
		r.open = !r.untilEnd
		return true
	}
	frame.Next = end(batches, r.pos)
	r.pos = frame.Next
	m.say(client, history.Event{Kind: history.ReadOK, Read: &frame, Batches: batches})
	return false
}

// run makes a history.
func (m *model) run(steps int) []history.Event {
	for range steps {
		switch n := m.IntN(100); {
		case n < 40:
			m.append()
		case n < 55:
			m.replicate(1 + m.IntN(3))
		case n < 75:
			m.sync(1 + m.IntN(3))
		case n < 84:
			m.read(1+uint64(m.IntN(3)), 3, false)
		case n < 86:
			m.set()
		case n < 88:
			m.tell(1 + m.IntN(3))
		case n < 90:
			m.ask(1 + m.IntN(3))
		case n < 93:
			m.failOver()
		case n < 96:
			m.power(1 + m.IntN(3))
		case n < 97:
			m.trim()
		default:
			for !m.read(1, 3, false) {
			}
		}
	}
	m.settle()
	return m.events
}

// settle lets everything heal, reads all, and dumps all.
func (m *model) settle() {
	for range 2 { // the second time brings the high watermark
		for b := 1; b <= 3; b++ {
			m.replicate(b)
			m.sync(b)
		}
		m.commit() // the leader may be new, and all of it be synced
	}
	for !m.read(9, 3, true) {
	}
	for b := 1; b <= 3; b++ {
		m.tell(b)
		m.ask(b)
	}
	hw := m.hw[m.leader]
	for b := 1; b <= 3; b++ {
		var kept []history.Batch
		for _, x := range m.log[b] {
			if x.Base >= m.start {
				kept = append(kept, x)
			}
		}
		half := len(kept) / 2
		for i, part := range [][]history.Batch{kept[:half], kept[half:]} {
			m.say(b, history.Event{Kind: history.LogDump, Batches: part, Replica: &history.Replica{
				Start: m.start, HighWatermark: hw, InSync: true, Last: i == 1,
			}})
		}
	}
}

// judge checks a history.
func judge(events []history.Event) *Report {
	c := New(modelRecorders())
	for i := range events {
		c.Observe(&events[i])
	}
	return c.Finish()
}
