package check

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// tellsOf finds events in which a partition, or settings, are told.
func tellsOf(k history.Kind, partition bool) func(*history.Event) bool {
	return func(e *history.Event) bool {
		return e.Kind == k && len(e.Metadata.Topics) > 0 &&
			(partition && len(e.Metadata.Topics[0].Partitions) > 0 || !partition && e.Metadata.Topics[0].Revision > 0)
	}
}

// eachTold changes a version of the partition wherever it is told, and in what
// its leader goes by.
func (s *story) eachTold(epoch int32, change func(p *history.PartitionState)) {
	for i := range s.events {
		switch e := &s.events[i]; e.Kind { //nolint:exhaustive // the others stay as they are
		case history.MetadataTold, history.TopicRead:
			s.metadata(i, func(md *history.Metadata) {
				for j := range md.Topics {
					for k := range md.Topics[j].Partitions {
						if p := &md.Topics[j].Partitions[k]; p.Epoch == epoch {
							change(p)
						}
					}
				}
			})
		case history.LeaderBegin:
			if e.Replica.PartitionEpoch == epoch {
				s.replica(i, func(r *history.Replica) { r.PartitionEpoch = 0 })
			}
		}
	}
}

// metadataMutations are about what is told of the metadata.
func metadataMutations() []mutation {
	var (
		told      = tellsOf(history.MetadataTold, true)
		toldOfSet = tellsOf(history.MetadataTold, false)
		read      = tellsOf(history.TopicRead, false)
	)
	is := func(k history.Kind) func(*history.Event) bool {
		return func(e *history.Event) bool { return e.Kind == k }
	}
	return []mutation{
		{"a version of a partition is told with two leaders", R24, func(s *story) bool {
			return doctor(s.pick(told), func(i int) {
				s.metadata(i, func(md *history.Metadata) { md.Topics[0].Partitions[0].Leader = 9 })
			})
		}},
		{"a version of a partition is told with two in-sync sets", R24, func(s *story) bool {
			return doctor(s.pick(told), func(i int) {
				s.metadata(i, func(md *history.Metadata) { md.Topics[0].Partitions[0].ISR = []int32{1, 2} })
			})
		}},
		{"a version is of two revisions", R24, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool {
				return told(e) && e.Metadata.Topics[0].Partitions[0].Revision == s.lastRevision()
			})
			return doctor(i, func(i int) {
				s.metadata(i, func(md *history.Metadata) { md.Topics[0].Partitions[0].Revision-- })
			})
		}},
		{"a leader goes by another in-sync set than it was told", R24, func(s *story) bool {
			return doctor(s.pick(is(history.LeaderBegin)), func(i int) {
				s.replica(i, func(r *history.Replica) { r.ISR = []int32{1, 2} })
			})
		}},
		{"a leader begins that the metadata does not name", R24, func(s *story) bool {
			return doctor(s.pick(is(history.LeaderBegin)), func(i int) {
				s.replica(i, func(r *history.Replica) { r.Epoch++ })
			})
		}},
		{"two brokers lead in one epoch, as all are told", R24, func(s *story) bool {
			if epoch := s.lastEpoch(); epoch > 1 && s.changesLeader(epoch) {
				s.eachTold(epoch, func(p *history.PartitionState) { p.LeaderEpoch-- })
				return true
			}
			return false
		}},
		{"a leader epoch falls, as all are told", R24, func(s *story) bool {
			epoch := s.lastEpoch()
			if epoch > 2 {
				s.eachTold(epoch, func(p *history.PartitionState) { p.LeaderEpoch -= 2 })
			}
			return epoch > 2
		}},
		{"a newer version is of an older revision, as all are told", R24, func(s *story) bool {
			epoch := s.lastEpoch()
			if epoch > 2 {
				s.eachTold(epoch, func(p *history.PartitionState) {
					if p.Revision > 0 {
						p.Revision = 1
					}
				})
			}
			return epoch > 2
		}},
		{"a watch goes back", R24, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.MetadataTold && !e.Metadata.More })
			return doctor(i, func(i int) {
				again := s.events[i]
				again.Metadata = &history.Metadata{Generation: 1, Revision: again.Metadata.Revision - 1}
				s.add(i, again)
			})
		}},
		{"a watch leaves a version out", R24, func(s *story) bool { return s.leaveOut(told) }},
		{"a watch leaves settings out", R24, func(s *story) bool { return s.leaveOut(toldOfSet) }},
		{"a read is older than was asked for", R24, func(s *story) bool {
			return doctor(s.pick(is(history.TopicRead)), func(i int) {
				s.metadata(i, func(md *history.Metadata) { md.Least = md.Revision + 1 })
			})
		}},
		{"a read shows settings that were others by then", R24, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return read(e) && e.Metadata.Topics[0].Revision > 1 })
			return doctor(i, func(i int) {
				s.metadata(i, func(md *history.Metadata) {
					md.Topics[0].Revision, md.Topics[0].Settings = 1, map[string]string{"segment.ms": "1"}
				})
			})
		}},
		{"a read shows a leader that was another by then", R24, func(s *story) bool {
			last := s.lastEpoch()
			i := s.pick(func(e *history.Event) bool {
				return last > 1 && tellsOf(history.TopicRead, true)(e) && e.Metadata.Topics[0].Partitions[0].LeaderEpoch == last
			})
			before := s.pick(func(e *history.Event) bool {
				return tellsOf(history.TopicRead, true)(e) && e.Metadata.Topics[0].Partitions[0].LeaderEpoch < last
			})
			return before >= 0 && doctor(i, func(i int) {
				s.metadata(i, func(md *history.Metadata) { md.Topics[0].Partitions = s.events[before].Metadata.Topics[0].Partitions })
			})
		}},
		{"a revision holds two settings", R24, func(s *story) bool {
			return doctor(s.pick(read), func(i int) {
				s.metadata(i, func(md *history.Metadata) { md.Topics[0].Settings["segment.ms"] = "2" })
			})
		}},
		{"a change is answered without what it asked for", R24, func(s *story) bool {
			return doctor(s.pick(is(history.SettingsOK)), func(i int) {
				s.settings(i, func(x *history.Settings) { x.Now = map[string]string{"segment.ms": "1"} })
			})
		}},
		{"a change comes before what was told when it was asked for", R24, func(s *story) bool {
			var oks []int
			for i := range s.events {
				if s.events[i].Kind == history.SettingsOK {
					oks = append(oks, i)
				}
			}
			if len(oks) < 2 {
				return false
			}
			// The later one is given the revision of the one before.
			a, b := oks[len(oks)-2], oks[len(oks)-1]
			revision := s.events[a].Settings.Revision
			s.settings(b, func(x *history.Settings) { x.Revision = revision - 1 })
			return true
		}},
		{"a change is carried out over another than it was meant for", R24, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool {
				return e.Kind == history.SettingsInvoke && e.Settings.Expected != nil && *e.Settings.Expected > 1 &&
					slices.ContainsFunc(s.events, func(x history.Event) bool { return x.Kind == history.SettingsOK && x.Op == e.Op }) &&
					slices.ContainsFunc(s.events, func(x history.Event) bool {
						return (x.Kind == history.SettingsOK) && x.Settings.Revision == *e.Settings.Expected
					})
			})
			return doctor(i, func(i int) { s.settings(i, func(x *history.Settings) { x.Expected = new(int64(1)) }) })
		}},
		{"a change that was refused is carried out", R24, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.SettingsOK && s.isTold(e.Settings.Revision) })
			return doctor(i, func(i int) { s.events[i].Kind, s.events[i].Settings = history.SettingsFail, nil })
		}},
		{"nobody has asked for a setting", R24, func(s *story) bool {
			var asked []uint64
			for i := range s.events {
				if e := &s.events[i]; e.Kind == history.SettingsOK && s.isTold(e.Settings.Revision) {
					asked = append(asked, e.Op)
				}
			}
			if len(asked) < 2 {
				return false
			}
			s.events = slices.DeleteFunc(s.events, func(e history.Event) bool { return e.Settings != nil && e.Op == asked[0] })
			return true
		}},
		{"a setting is told before anybody asked for it", R24, func(s *story) bool {
			ok := s.pick(func(e *history.Event) bool { return e.Kind == history.SettingsOK })
			if ok < 0 {
				return false
			}
			op, revision := s.events[ok].Op, s.events[ok].Settings.Revision
			asked := slices.IndexFunc(s.events, func(e history.Event) bool { return e.Kind == history.SettingsInvoke && e.Op == op })
			if !slices.ContainsFunc(s.events[asked:ok], func(e history.Event) bool {
				return toldOfSet(&e) && e.Metadata.Topics[0].Revision == revision
			}) {
				return false
			}
			invoke := s.events[asked]
			invoke.T = s.events[ok].T
			s.events = slices.Insert(s.events, ok, invoke)
			s.remove(asked)
			return true
		}},
		{"a change is answered twice", Whole, func(s *story) bool {
			return doctor(s.pick(is(history.SettingsOK)), func(i int) { s.add(i, s.events[i]) })
		}},
	}
}

// lastRevision is the revision of the last version of the partition.
func (s *story) lastRevision() (revision int64) {
	for i := range s.events {
		if e := &s.events[i]; tellsOf(history.MetadataTold, true)(e) {
			revision = max(revision, e.Metadata.Topics[0].Partitions[0].Revision)
		}
	}
	return revision
}

// changesLeader tells whether another broker leads in an epoch than before.
func (s *story) changesLeader(epoch int32) bool {
	leader := map[int32]uint16{}
	for i := range s.events {
		if e := &s.events[i]; e.Kind == history.LeaderBegin {
			leader[e.Replica.Epoch] = e.At.Source
		}
	}
	return leader[epoch] != leader[epoch-1]
}

// isTold tells whether a broker was told of the settings of a revision.
func (s *story) isTold(revision int64) bool {
	return slices.ContainsFunc(s.events, func(e history.Event) bool {
		return tellsOf(history.MetadataTold, false)(&e) && e.Metadata.Topics[0].Revision == revision
	})
}

// leaveOut has a broker, which holds something already, not told of what an event
// tells; others are told.
func (s *story) leaveOut(fits func(*history.Event) bool) bool {
	begun := map[uint16]bool{}
	var all []int
	for i := range s.events {
		e := &s.events[i]
		switch {
		case e.Kind == history.BrokerStart:
			begun[e.At.Source] = false
		case fits(e) && begun[e.At.Source]:
			all = append(all, i)
		case fits(e):
			begun[e.At.Source] = true
		}
	}
	if len(all) == 0 {
		return false
	}
	i := all[s.IntN(len(all))]
	version := func(e *history.Event) int64 {
		if t := &e.Metadata.Topics[0]; len(t.Partitions) > 0 && t.Revision == 0 {
			return t.Partitions[0].Revision
		}
		return e.Metadata.Topics[0].Revision
	}
	for j := range s.events {
		if e := &s.events[j]; fits(e) && e.At.Source != s.events[i].At.Source && version(e) == version(&s.events[i]) {
			s.metadata(i, func(md *history.Metadata) { md.Topics = nil })
			return true
		}
	}
	return false
}

// recoveryMutations are about the time until a partition takes appends again.
func recoveryMutations() []mutation {
	isHeal := func(e *history.Event) bool { return e.Kind == history.FaultEnd }
	// tried finds an acknowledgement behind the end of a fault, and an append
	// between the two.
	tried := func(s *story) (heal, try, ack int) {
		heal = s.pick(isHeal)
		if heal < 0 {
			return -1, -1, -1
		}
		try = heal + slices.IndexFunc(s.events[heal:], func(e history.Event) bool { return e.Kind == history.AppendInvoke })
		ack = heal + slices.IndexFunc(s.events[heal:], func(e history.Event) bool { return isPromise(&e) })
		if try < heal || ack < try || slices.ContainsFunc(s.events[heal+1:ack], func(e history.Event) bool {
			return e.Fault != nil || e.Kind == history.AppendOK && e.Ack.Scope != history.ScopeNone
		}) {
			return -1, -1, -1
		}
		return heal, try, ack
	}
	return []mutation{
		{"the first acknowledgement comes late after a fault", R26, func(s *story) bool {
			_, _, ack := tried(s)
			return doctor(ack, func(int) { s.delay(ack) })
		}},
		{"an append is not acknowledged for long after a fault", R26, func(s *story) bool {
			_, try, ack := tried(s)
			return doctor(ack, func(int) {
				s.events[ack] = history.Event{Kind: history.AppendUnknown, T: s.events[ack].T, Topic: "t", Op: s.events[ack].Op, At: s.events[ack].At}
				s.delay(try + 1)
			})
		}},
	}
}

// delay has all that follows happen later than a partition may take to recover.
func (s *story) delay(from int) {
	for i := from; i < len(s.events); i++ {
		s.events[i].T += int64(RecoveryMax + time.Second)
	}
}
