package check

import (
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

func (s *tale) leads(broker int, epoch int32, m history.Medium, isr ...int32) {
	s.broker(broker, history.LeaderBegin, history.Replica{Epoch: epoch, ISR: isr, MinISR: 2, Medium: m})
}

func (s *tale) written(broker int, end int64) {
	s.broker(broker, history.LogWritten, history.Replica{End: end})
}

func (s *tale) onDisk(broker int, end int64) {
	s.broker(broker, history.LogSynced, history.Replica{End: end})
}

func (s *tale) commits(broker int, epoch int32, hw int64) {
	s.broker(broker, history.HighWatermark, history.Replica{Epoch: epoch, HighWatermark: hw})
}

func (s *tale) hears(broker int, epoch, of int32, end int64) {
	s.broker(broker, history.ReplicaHeard, history.Replica{Epoch: epoch, Of: of, End: end})
}

func (s *tale) fault(k history.FaultKind, broker int32) {
	s.say(driver, history.Event{Kind: history.FaultBegin, Fault: &history.Fault{Kind: k, Broker: broker}})
}

func (s *tale) starts(broker int) { s.say(broker, history.Event{Kind: history.BrokerStart}) }

// A leader may count on what a replica told it before that lost it with its
// power or its log: what is cut off cannot know. Not once the replica has opened
// a session with it, or was taken in sync anew, and not if it leads only since
// then.
func TestALeaderCountsOnWhatItWasTold(t *testing.T) {
	off := func(s *tale) { s.fault(history.FaultPower, 2); s.fault(history.FaultOff, 2) }
	again := func(s *tale) { off(s); s.starts(2) }
	gone := func(s *tale) { s.say(2, history.Event{Kind: history.LogGone}) }
	isr := func(s *tale, ids ...int32) {
		s.broker(1, history.ISR, history.Replica{Epoch: 1, ISR: ids, MinISR: 2, Medium: history.MediumMemory})
	}
	next := func(s *tale) { s.leads(3, 2, history.MediumMemory, 1, 2, 3) }
	for _, c := range []struct {
		name   string
		then   func(s *tale)
		leader int // who commits
		fails  bool
	}{
		{"its power is about to go", func(s *tale) { s.fault(history.FaultPower, 2) }, 1, false},
		{"it is off", off, 1, false},
		{"it begins again", again, 1, false},
		{"nobody says when it is off", func(s *tale) { s.fault(history.FaultPower, 2); s.starts(2) }, 1, false},
		{"it begins again twice", func(s *tale) { again(s); s.starts(2) }, 1, false},
		{"it begins again, and another left", func(s *tale) { again(s); isr(s, 1, 2) }, 1, false},
		{"it begins again, and the leader is cut off", func(s *tale) { again(s); s.written(2, 0) }, 1, false},
		{"it begins again, and opens a session", func(s *tale) { again(s); s.hears(1, 1, 2, 0) }, 1, true},
		{"it begins again, and another one opens a session", func(s *tale) { again(s); s.hears(1, 1, 3, 0) }, 1, false},
		{"it begins again, and a session comes that it opened before", func(s *tale) { again(s); s.hears(1, 1, 2, 1) }, 1, false},
		{"it begins again, and is taken in sync as it was", func(s *tale) { again(s); isr(s, 1, 3); isr(s, 1, 2, 3) }, 1, true},
		{"it is killed, and opens a session", func(s *tale) { s.starts(2); s.written(2, 1); s.hears(1, 1, 2, 1) }, 1, false},
		{"another begins to lead before", func(s *tale) { s.fault(history.FaultPower, 2); next(s); s.fault(history.FaultOff, 2) }, 3, false},
		{"another begins to lead while it is off", func(s *tale) { off(s); next(s) }, 3, true},
		{"another begins to lead while it is off, of which it knew", func(s *tale) { off(s); next(s); s.hears(3, 2, 2, 1) }, 3, false},
		{"another begins to lead while it is off, and it begins again", func(s *tale) { off(s); next(s); s.starts(2) }, 3, true},
		{"another begins to lead afterwards", func(s *tale) { again(s); next(s) }, 3, true},
		{"another begins to lead, and the one that was cut off goes on", func(s *tale) { again(s); next(s) }, 1, false},
		{"its log is gone", gone, 1, false},
		{"its log is gone, and it opens a session", func(s *tale) { gone(s); s.hears(1, 1, 2, 0) }, 1, true},
		{"its log is gone, and another begins to lead", func(s *tale) { gone(s); next(s) }, 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTale(t)
			s.leads(1, 1, history.MediumMemory, 1, 2, 3)
			for b := 1; b <= 3; b++ {
				s.written(b, 1)
			}
			c.then(s)
			s.commits(c.leader, map[int]int32{1: 1, 3: 2}[c.leader], 1)
			if c.fails {
				s.fails(R15)
			} else {
				s.passes()
			}
		})
	}
}

// The same on disk, of which only a log that is put away takes what was synced.
func TestALeaderCountsOnWhatItWasToldOfADisk(t *testing.T) {
	for then, fails := range map[string]bool{"power": false, "gone": false, "gone, and heard": true} {
		s := newTale(t)
		s.leads(1, 1, history.MediumDisk, 1, 2)
		for b := 1; b <= 2; b++ {
			s.written(b, 1)
			s.onDisk(b, 1)
		}
		switch then {
		case "power":
			s.fault(history.FaultPower, 2)
			s.starts(2)
			s.hears(1, 1, 2, 1)
		case "gone, and heard":
			s.say(2, history.Event{Kind: history.LogGone})
			s.hears(1, 1, 2, 0)
		default:
			s.say(2, history.Event{Kind: history.LogGone})
		}
		s.commits(1, 1, 1)
		if fails {
			s.fails(R15)
		} else {
			s.passes()
		}
	}
}

// A replica in sync that never said a word has nothing, unless its broker writes
// no history.
func TestAReplicaThatSaysNothingHasNothing(t *testing.T) {
	for _, of := range []int32{2, 9} {
		s := newTale(t)
		s.leads(1, 1, history.MediumMemory, 1, of)
		s.written(1, 1)
		s.commits(1, 1, 1)
		if of == 2 {
			s.fails(R15)
		} else {
			s.passes()
		}
	}
}

// Who begins to lead has all that was committed, unless all who had it may have
// lost it.
func TestALeaderBeginsWithWhatIsCommitted(t *testing.T) {
	for _, c := range []struct {
		name  string
		cut   []int32
		end   int64
		fails bool
	}{
		{"all", nil, 3, false},
		{"less", nil, 2, true},
		{"less, for it has lost it", []int32{2}, 2, true},
		{"less, and all have lost it", []int32{1, 2}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTale(t)
			s.leads(1, 1, history.MediumMemory, 1, 2)
			s.written(1, 3)
			s.written(2, 3)
			s.commits(1, 1, 3)
			for _, b := range c.cut {
				s.fault(history.FaultPower, b)
			}
			s.starts(2)
			s.written(2, c.end)
			s.leads(2, 2, history.MediumMemory, 1, 2)
			if c.fails {
				s.fails(R15)
			} else {
				s.passes()
			}
		})
	}
}

// A log that is opened has what was synced, whatever happened to its broker; but
// for a disk that lost it, and what was given up before.
func TestALogIsOpenedWithWhatWasSynced(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(s *tale)
		end    int64
		fails  bool
	}{
		{"it was killed", func(*tale) {}, 5, false},
		{"it was killed, and nothing was synced of the rest", func(*tale) {}, 3, false},
		{"it was killed, and synced records are missing", func(*tale) {}, 2, true},
		{"power went, and synced records are missing", func(s *tale) { s.fault(history.FaultPower, 1); s.fault(history.FaultOff, 1) }, 2, true},
		{"it is empty", func(*tale) {}, 0, true},
		{"its disk was damaged", func(s *tale) { s.fault(history.FaultDisk, 1) }, 2, false},
		{"its log is gone", func(s *tale) { s.say(1, history.Event{Kind: history.LogGone}) }, 0, false},
		{"it gave up the rest", func(s *tale) { s.broker(1, history.LogTruncated, history.Replica{From: 5, To: 2}) }, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTale(t)
			s.written(1, 0)
			s.written(1, 5)
			s.onDisk(1, 3)
			c.before(s)
			s.starts(1)
			s.written(1, c.end)
			if c.fails {
				s.fails(RecoveryCut)
			} else {
				s.passes()
			}
		})
	}
}

// A replica that was away until the leader had let go all that it has begins
// again there.
func TestALogBeginsWhereTheLeadersBegins(t *testing.T) {
	for start, fails := range map[int64]bool{9: false, 10: true} {
		s := newTale(t)
		s.leads(1, 1, history.MediumMemory, 1, 3)
		for b := 1; b <= 3; b++ {
			s.written(b, 2)
		}
		s.commits(1, 1, 2)
		s.commits(2, 1, 2)
		s.written(1, 10)
		s.written(3, 10)
		s.commits(1, 1, 9)
		s.broker(2, history.LogStart, history.Replica{Start: start})
		if fails {
			s.fails(StartMoves)
		} else {
			s.passes()
		}
	}
}
