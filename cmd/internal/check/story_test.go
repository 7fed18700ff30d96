package check

import (
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// tale writes short histories by hand.
type tale struct {
	t *testing.T
	model
}

func newTale(t *testing.T) *tale { return &tale{t: t} }

func (s *tale) invoke(op uint64, a history.Append) {
	if a.N == 0 {
		a.N = 1
	}
	if a.Acks == "" {
		a.Acks = history.AcksAll
	}
	s.say(client, history.Event{Kind: history.AppendInvoke, Op: op, Append: &a})
}

func (s *tale) ok(op uint64, a history.Ack) {
	if a.InSync == 0 {
		a.InSync = 1
	}
	if a.Scope == "" {
		a.Scope, a.Medium = history.ScopeISR, max(a.Medium, history.MediumDisk)
	}
	s.say(client, history.Event{Kind: history.AppendOK, Op: op, Ack: &a})
}

// reads lets a new reader get batches from an offset to their end.
func (s *tale) reads(reader uint64, from int64, drain bool, batches ...history.Batch) {
	for i := range batches {
		batches[i].N = max(batches[i].N, 1)
	}
	next := end(batches, from)
	s.say(client, history.Event{Kind: history.ReadBegin, Read: &history.Read{Reader: reader, From: from, UntilEnd: true, Drain: drain}})
	s.say(client, history.Event{Kind: history.ReadOK, Batches: batches, Read: &history.Read{Reader: reader, From: from, Next: next, HighWatermark: next}})
	s.say(client, history.Event{Kind: history.ReadEnd, Read: &history.Read{Reader: reader, Next: next, Finished: true}})
}

func batch(base int64, epoch int32, d history.Digest) history.Batch {
	return history.Batch{Base: base, Epoch: epoch, Content: history.Content{N: 1, Digest: d}}
}

func content(d history.Digest) history.Append {
	return history.Append{Content: history.Content{N: 1, Digest: d}}
}

// passes checks that nothing is violated.
func (s *tale) passes() *Report {
	s.t.Helper()
	r := judge(s.events)
	if failures(r) > 0 {
		explain(s.t, r)
		s.t.Fatal("it does not pass")
	}
	return r
}

// fails checks that one rule is violated.
func (s *tale) fails(rule Rule) {
	s.t.Helper()
	r := judge(s.events)
	if r.Result(rule).Violated == 0 {
		explain(s.t, r)
		s.t.Fatalf("%s is not violated", rule)
	}
}

// What a leader alone acknowledged may be gone with it; what all in sync
// acknowledged may not.
func TestALeaderAloneMayLoseWhatItAcknowledged(t *testing.T) {
	for _, acks := range []history.Acks{history.AcksLeader, history.AcksAll} {
		s := newTale(t)
		a := content(1)
		a.Acks = acks
		s.invoke(1, a)
		ack := history.Ack{Base: 0, Epoch: 1}
		if acks == history.AcksLeader {
			ack.Scope, ack.Medium = history.ScopeLeader, history.MediumMemory
		}
		s.ok(1, ack)
		s.invoke(2, content(2))
		s.ok(2, history.Ack{Base: 0, Epoch: 2})
		s.reads(1, 0, true, batch(0, 2, 2))
		if acks == history.AcksLeader {
			s.passes()
		} else {
			s.fails(R1)
			s.fails(R4)
		}
	}
}

// Within one epoch even a leader alone does not give an offset to two batches.
func TestALeaderAloneKeepsOffsetsInItsEpoch(t *testing.T) {
	s := newTale(t)
	for op := range uint64(2) {
		a := content(history.Digest(op + 1))
		a.Acks = history.AcksLeader
		s.invoke(op+1, a)
		s.ok(op+1, history.Ack{Scope: history.ScopeLeader, Medium: history.MediumMemory, Epoch: 1})
	}
	s.fails(R1)
}

// What is in memory goes with the power of all who had it, and not sooner;
// what is on disk stays.
func TestPowerTakesWhatIsInMemory(t *testing.T) {
	for _, c := range []struct {
		name   string
		medium history.Medium
		kind   history.FaultKind
		cut    []int32
		gone   bool // may be
	}{
		{"one of two in memory", history.MediumMemory, history.FaultPower, []int32{1}, false},
		{"the same one twice", history.MediumMemory, history.FaultPower, []int32{1, 1}, false},
		{"both in memory", history.MediumMemory, history.FaultPower, []int32{1, 2}, true},
		{"both killed", history.MediumMemory, history.FaultKill, []int32{1, 2}, false},
		{"both on disk", history.MediumDisk, history.FaultPower, []int32{1, 2}, false},
		{"both disks", history.MediumDisk, history.FaultDisk, []int32{1, 2}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTale(t)
			s.invoke(1, content(1))
			s.ok(1, history.Ack{Scope: history.ScopeISR, Medium: c.medium, InSync: 2, Epoch: 1})
			for _, b := range c.cut {
				s.say(driver, history.Event{Kind: history.FaultBegin, Fault: &history.Fault{Kind: c.kind, Broker: b}})
			}
			s.invoke(2, content(2))
			s.ok(2, history.Ack{Scope: history.ScopeISR, Medium: c.medium, InSync: 2, Epoch: 2})
			s.reads(1, 0, true, batch(0, 2, 2))
			if !c.gone {
				s.fails(R4)
			} else if r := s.passes(); r.Released == 0 {
				t.Error("the loss is not counted")
			}
		})
	}
}

// What is asked for and acknowledged while the power goes goes with it; what is
// asked for when nothing runs any more was not in what is lost.
func TestPowerThatGoesTakesWhatIsAskedForThen(t *testing.T) {
	for name, gone := range map[string]bool{"while it goes": true, "when it is off": false} {
		t.Run(name, func(t *testing.T) {
			s := newTale(t)
			both := func(kind history.FaultKind) {
				for b := range int32(2) {
					s.say(driver, history.Event{Kind: history.FaultBegin, Fault: &history.Fault{Kind: kind, Broker: b + 1}})
				}
			}
			if both(history.FaultPower); !gone {
				both(history.FaultOff)
			}
			s.invoke(1, content(1))
			s.ok(1, history.Ack{Scope: history.ScopeISR, Medium: history.MediumMemory, InSync: 2, Epoch: 1})
			if gone {
				both(history.FaultOff)
			}
			for b := 1; b <= 2; b++ {
				s.say(b, history.Event{Kind: history.BrokerStart})
			}
			s.invoke(2, content(2))
			s.ok(2, history.Ack{Scope: history.ScopeISR, Medium: history.MediumMemory, InSync: 2, Epoch: 2})
			s.reads(1, 0, true, batch(0, 2, 2))
			if !gone {
				s.fails(R1)
			} else if r := s.passes(); r.Released == 0 {
				t.Error("the loss is not counted")
			}
		})
	}
}

// Only a broker that has put its log away may begin it again.
func TestALogThatIsGoneBeginsAgain(t *testing.T) {
	for _, gone := range []bool{true, false} {
		s := newTale(t)
		s.say(1, history.Event{Kind: history.LeaderBegin, Replica: &history.Replica{Epoch: 1, HighWatermark: 9, ISR: []int32{1}, MinISR: 1, Medium: history.MediumDisk}})
		for _, end := range []int64{9, 3} {
			if gone && end == 3 {
				s.say(2, history.Event{Kind: history.LogGone})
			}
			s.say(2, history.Event{Kind: history.LogWritten, Replica: &history.Replica{End: end}})
			s.say(2, history.Event{Kind: history.LogSynced, Replica: &history.Replica{End: end - 1}})
			s.say(2, history.Event{Kind: history.HighWatermark, Replica: &history.Replica{Epoch: 1, HighWatermark: end}})
		}
		if gone {
			s.passes()
		} else {
			s.fails(R15)
		}
	}
}

// When all lost their power the log in memory begins again, whatever they said
// between the loss and their next start.
func TestALogInMemoryBeginsAgainAfterPower(t *testing.T) {
	s := newTale(t)
	memory := func(epoch int32) *history.Replica {
		return &history.Replica{Epoch: epoch, ISR: []int32{1, 2}, MinISR: 2, Medium: history.MediumMemory}
	}
	ack := func(base int64, epoch int32) history.Ack {
		return history.Ack{Scope: history.ScopeISR, Medium: history.MediumMemory, InSync: 2, Base: base, Epoch: epoch}
	}
	s.say(1, history.Event{Kind: history.LeaderBegin, Replica: memory(1)})
	s.invoke(1, content(1))
	s.invoke(2, content(2))
	for b := 1; b <= 2; b++ {
		s.say(b, history.Event{Kind: history.LogWritten, Replica: &history.Replica{End: 2}})
	}
	for b := int32(1); b <= 2; b++ {
		s.say(driver, history.Event{Kind: history.FaultBegin, Fault: &history.Fault{Kind: history.FaultPower, Broker: b}})
	}
	for b := 1; b <= 2; b++ {
		s.say(b, history.Event{Kind: history.HighWatermark, Replica: &history.Replica{Epoch: 1, HighWatermark: 2}})
	}
	s.ok(1, ack(0, 1))
	s.ok(2, ack(1, 1))
	for b := 1; b <= 2; b++ {
		s.say(b, history.Event{Kind: history.BrokerStart})
		s.say(b, history.Event{Kind: history.LogCut, Replica: &history.Replica{From: 2, To: 0}})
	}
	s.say(2, history.Event{Kind: history.LeaderBegin, Replica: memory(2)})
	s.invoke(3, content(3))
	s.ok(3, ack(0, 2))
	s.reads(1, 0, true, batch(0, 2, 3))
	if r := s.passes(); r.Released == 0 {
		t.Error("the loss is not counted")
	}
}

// The high watermark that a reader is told goes back only over a loss that took
// what was committed from all who had it; afterwards it does not go back either.
// A frame from before the loss may come after it was written down, and a stream
// begin while it is made.
func TestTheHighWatermarkGoesBackOnlyOverALoss(t *testing.T) {
	for _, c := range []struct {
		name   string
		medium history.Medium
		kind   history.FaultKind
		cut    []int32
		before int  // of the events: 0 the stream begins, 1 it has a frame, 2 it ends
		begun  bool // the brokers begin again at once
		back   bool
	}{
		{"nothing", history.MediumMemory, history.FaultPower, nil, 2, true, false},
		{"power of one", history.MediumMemory, history.FaultPower, []int32{1}, 2, true, false},
		{"power of one, twice", history.MediumMemory, history.FaultPower, []int32{1, 1}, 2, true, false},
		{"power of all", history.MediumMemory, history.FaultPower, []int32{1, 2}, 2, true, true},
		{"power of all, and a frame is on its way", history.MediumMemory, history.FaultPower, []int32{1, 2}, 1, true, true},
		{"power of all before the stream", history.MediumMemory, history.FaultPower, []int32{1, 2}, 0, true, false},
		{"power that goes as the stream begins", history.MediumMemory, history.FaultPower, []int32{1, 2}, 0, false, true},
		{"all killed", history.MediumMemory, history.FaultKill, []int32{1, 2}, 2, true, false},
		{"power of all, on disk", history.MediumDisk, history.FaultPower, []int32{1, 2}, 2, true, false},
		{"disks of all", history.MediumDisk, history.FaultDisk, []int32{1, 2}, 2, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTale(t)
			said := 0
			say := func(k history.Kind, from, next, hw int64, batches ...history.Batch) {
				if said == c.before {
					for _, b := range c.cut {
						s.say(driver, history.Event{Kind: history.FaultBegin, Fault: &history.Fault{Kind: c.kind, Broker: b}})
					}
				}
				if said == c.before && c.begun || said == 3 && len(c.cut) > 0 {
					for _, b := range c.cut {
						s.say(int(b), history.Event{Kind: history.BrokerStart})
					}
				}
				said++
				s.say(client, history.Event{Kind: k, Batches: batches, Read: &history.Read{Reader: 1, From: from, Next: next, HighWatermark: hw}})
			}
			for op := range uint64(3) {
				s.invoke(op+1, content(history.Digest(op+1)))
				s.ok(op+1, history.Ack{Scope: history.ScopeISR, Medium: c.medium, InSync: 2, Base: int64(op), Epoch: 1})
			}
			say(history.ReadBegin, 0, 0, 0)
			say(history.ReadOK, 0, 1, 3, batch(0, 1, 1))
			say(history.ReadFail, 0, 0, 0)
			say(history.ReadBegin, 1, 0, 0)
			say(history.ReadOK, 1, 2, 2, batch(1, 1, 2))
			if !c.back {
				s.fails(R15)
				return
			}
			s.passes()
			s.invoke(4, content(4))
			s.ok(4, history.Ack{Scope: history.ScopeISR, Medium: c.medium, InSync: 2, Base: 2, Epoch: 2})
			say(history.ReadOK, 2, 3, 3, batch(2, 2, 4))
			s.passes()
			say(history.ReadOK, 3, 3, 2)
			s.fails(R15)
		})
	}
}

// A batch that was sent twice may be there twice, and that is counted; three
// times it may not.
func TestWhatIsSentAgainMayBeThereAgain(t *testing.T) {
	s := newTale(t)
	s.invoke(1, content(1))
	s.say(client, history.Event{Kind: history.AppendUnknown, Op: 1})
	s.invoke(2, content(1))
	s.ok(2, history.Ack{Base: 1, Epoch: 1})
	s.reads(1, 0, true, batch(0, 1, 1), batch(1, 1, 1))
	if r := s.passes(); r.Repeated != 1 {
		t.Errorf("%d are counted", r.Repeated)
	}
	s.reads(2, 2, true, batch(2, 1, 1))
	s.fails(R2)

	s = newTale(t)
	tries := content(1)
	tries.Tries = 2
	s.invoke(1, tries)
	s.ok(1, history.Ack{Base: 1, Epoch: 1})
	s.reads(1, 0, true, batch(0, 1, 1), batch(1, 1, 1))
	s.passes()
}

// An append that failed and was sent again successfully has not failed.
func TestWhatFailedMaySucceedLater(t *testing.T) {
	s := newTale(t)
	s.invoke(1, content(1))
	s.say(client, history.Event{Kind: history.AppendFail, Op: 1})
	s.invoke(2, content(1))
	s.ok(2, history.Ack{Epoch: 1})
	s.reads(1, 0, true, batch(0, 1, 1))
	s.passes()
}

// A batch that is read before its answer came, which then says otherwise.
func TestFailuresThatWereRead(t *testing.T) {
	s := newTale(t)
	s.invoke(1, content(1))
	s.reads(1, 0, true, batch(0, 1, 1))
	s.passes()
	s.say(client, history.Event{Kind: history.AppendFail, Op: 1})
	s.fails(R6)
}

// Where readers see records and not batches, appends give the digests of
// records.
func TestRecordsOneByOne(t *testing.T) {
	a := history.Append{Content: history.Content{N: 2, Digest: 99, Digests: []history.Digest{1, 2}}}
	s := newTale(t)
	s.invoke(1, a)
	s.ok(1, history.Ack{Epoch: 1})
	s.reads(1, 1, false, batch(1, 1, 2)) // from the middle of the batch
	s.reads(2, 0, true, batch(0, 1, 1), history.Batch{Base: 1, Epoch: 1, Content: history.Content{N: 1, Digest: 2, Digests: []history.Digest{2}}})
	s.passes()
	s.reads(3, 0, false, batch(0, 1, 1), batch(1, 1, 3))
	s.fails(R1)

	s = newTale(t)
	s.invoke(1, a)
	s.reads(1, 0, false, history.Batch{Base: 0, Epoch: 1, Content: history.Content{N: 2, Digest: 99}})
	s.fails(Whole)
}

// Control batches fill offsets that no reader gets, if a dump shows them.
func TestControlBatchesExplainGaps(t *testing.T) {
	s := newTale(t)
	for op, base := range []int64{0, 2} {
		s.invoke(uint64(op+1), content(history.Digest(op+1)))
		s.ok(uint64(op+1), history.Ack{Base: base, Epoch: 1})
	}
	s.reads(1, 0, true, batch(0, 1, 1), batch(2, 1, 2))
	s.fails(R11)
	s.say(1, history.Event{Kind: history.LogDump, Replica: &history.Replica{HighWatermark: 3, InSync: true, Last: true}, Batches: []history.Batch{
		batch(0, 1, 1), {Base: 1, Epoch: 1, Control: true, Content: history.Content{N: 1}}, batch(2, 1, 2),
	}})
	s.passes()
}

// A reader may begin elsewhere once an error has said that its place is gone,
// and not after any other error.
func TestReadersMoveWhenTheyAreTold(t *testing.T) {
	for reason, free := range map[string]bool{ReasonOutOfRange: true, ReasonDiverged: true, "UNAVAILABLE": false} {
		s := newTale(t)
		for op := range uint64(2) {
			s.invoke(op+1, content(history.Digest(op+1)))
			s.ok(op+1, history.Ack{Base: int64(op), Epoch: 1})
		}
		s.reads(1, 0, false, batch(0, 1, 1), batch(1, 1, 2))
		s.say(client, history.Event{Kind: history.ReadBegin, Read: &history.Read{Reader: 1, From: 2}})
		s.say(client, history.Event{Kind: history.ReadFail, Reason: reason, Read: &history.Read{Reader: 1}})
		s.reads(1, 0, false, batch(0, 1, 1), batch(1, 1, 2))
		if free {
			s.passes()
		} else {
			s.fails(R23)
		}
	}
}

// Rules without anything to judge neither pass nor fail, unless they are
// required; a history without events fails.
func TestNothingToJudge(t *testing.T) {
	r := judge(nil)
	if passed, failed := r.Counts(); passed != 0 || failed != 1 {
		t.Errorf("%d passed, %d failed", passed, failed)
	}
	s := newTale(t)
	s.invoke(1, content(1))
	r = s.passes()
	if passed, _ := r.Counts(); passed != 1 || r.Result(Whole).Checked == 0 {
		t.Errorf("%d passed", passed)
	}
	r.Require([]string{"R4", "history"})
	if passed, failed := r.Counts(); passed != 1 || failed != 1 || r.Result(R4).Violated != 1 {
		t.Errorf("%d passed, %d failed", passed, failed)
	}
}
