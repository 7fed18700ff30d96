package check

import (
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// leaderMutations are about who leads and acknowledges.
func leaderMutations() []mutation {
	return []mutation{
		{"two brokers lead in an epoch", R16, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.LeaderBegin })
			return doctor(i, func(i int) {
				s.add(i, s.events[i])
				s.events[i+1].At.Source = s.events[i].At.Source%3 + 1
			})
		}},
		{"another broker acknowledges", R16, func(s *story) bool {
			return doctor(s.pick(isPromise), func(i int) {
				s.ack(i, func(a *history.Ack) { other := *a.Leader%3 + 1; a.Leader = &other })
			})
		}},
		{"two brokers acknowledge in an epoch, as clients see it", R16, func(s *story) bool {
			var oks []int
			for i := range s.events {
				if isPromise(&s.events[i]) && (len(oks) == 0 || s.events[oks[0]].Ack.Epoch == s.events[i].Ack.Epoch) {
					oks = append(oks, i)
				}
			}
			if len(oks) < 2 {
				return false
			}
			s.ack(oks[1], func(a *history.Ack) { other := *a.Leader%3 + 1; a.Leader = &other })
			s.events = slices.DeleteFunc(s.events, func(e history.Event) bool { return e.Kind == history.LeaderBegin })
			return true
		}},
		{"an old leader acknowledges what is asked for after the new one did", R16, func(s *story) bool {
			// The first of an epoch is asked for after one of the epoch before was
			// acknowledged; then that one is given a later epoch.
			first := -1
			for i := range s.events {
				e := &s.events[i]
				if !isPromise(e) {
					continue
				}
				if first >= 0 && s.invoked(e.Op) > first {
					s.ack(first, func(a *history.Ack) { a.Epoch = e.Ack.Epoch + 1 })
					return true
				}
				if first < 0 {
					first = i
				}
			}
			return false
		}},
		{"an acknowledgement after the end of its leader", R16, func(s *story) bool {
			i := s.pick(isPromise)
			return doctor(i, func(i int) {
				epoch := s.events[i].Ack.Epoch
				s.events = slices.DeleteFunc(s.events, func(e history.Event) bool {
					return e.Kind == history.LeaderEnd && e.Replica.Epoch == epoch
				})
				begun := slices.IndexFunc(s.events, func(e history.Event) bool {
					return e.Kind == history.LeaderBegin && e.Replica.Epoch == epoch
				})
				s.add(begun, history.Event{Kind: history.LeaderEnd, T: s.events[begun].T, Replica: &history.Replica{Epoch: epoch}})
			})
		}},
		{"an acknowledgement has less than was asked for", AckSays, func(s *story) bool {
			return doctor(s.pick(isPromise), func(i int) { s.ack(i, func(a *history.Ack) { a.Scope = history.ScopeLeader }) })
		}},
		{"an acknowledgement with too few in sync", AckSays, func(s *story) bool {
			return doctor(s.pick(isPromise), func(i int) { s.ack(i, func(a *history.Ack) { a.InSync = 1 }) })
		}},
	}
}

// replicaMutations are about the logs of brokers.
func replicaMutations() []mutation {
	is := func(k history.Kind) func(*history.Event) bool {
		return func(e *history.Event) bool { return e.Kind == k }
	}
	return []mutation{
		{"the high watermark goes back on a broker", R15, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.HighWatermark && e.Replica.HighWatermark > 0 })
			return doctor(i, func(i int) {
				s.add(i, s.events[i])
				s.replica(i+1, func(r *history.Replica) { r.HighWatermark-- })
			})
		}},
		{"the high watermark passes a replica in sync", R15, func(s *story) bool {
			leader := -1
			for i := range s.events {
				switch e := &s.events[i]; e.Kind { //nolint:exhaustive // the others stay as they are
				case history.LeaderBegin:
					leader = int(e.At.Source)
				case history.HighWatermark:
					if int(e.At.Source) == leader {
						s.replica(i, func(r *history.Replica) { r.HighWatermark += 1000 })
						return true
					}
				}
			}
			return false
		}},
		{"the high watermark moves with too few in sync", R15, func(s *story) bool {
			for i := range s.events {
				if s.events[i].Kind == history.LeaderBegin {
					s.replica(i, func(r *history.Replica) { r.ISR = []int32{int32(s.events[i].At.Source)} })
				}
			}
			return s.pick(isPromise) >= 0
		}},
		{"a follower knows more than the leader", R15, func(s *story) bool {
			leader := -1
			for i := range s.events {
				switch e := &s.events[i]; e.Kind { //nolint:exhaustive // the others stay as they are
				case history.LeaderBegin:
					leader = int(e.At.Source)
				case history.HighWatermark:
					if int(e.At.Source) != leader {
						s.replica(i, func(r *history.Replica) { r.HighWatermark += 1000 })
						return true
					}
				}
			}
			return false
		}},
		{"replicas have different bytes", R17, func(s *story) bool {
			i, b := s.promisedFrame(isDump)
			return doctor(i, func(i int) {
				s.edit(i, func(l []history.Batch) []history.Batch { l[b].CRC++; return l })
			})
		}},
		{"a replica lacks a batch", R17, func(s *story) bool {
			i, b := s.promisedFrame(isDump)
			return doctor(i, func(i int) {
				if end(s.events[i].Batches[:b+1], 0) == s.events[i].Replica.HighWatermark {
					// The last: the dump would only end sooner, which R4 is for.
					s.events[i].Batches = slices.Insert(slices.Clone(s.events[i].Batches), b, history.Batch{
						Base: s.events[i].Batches[b].Base, CRC: 5, Content: history.Content{N: 1},
					})
					return
				}
				s.edit(i, dropBatch(b))
			})
		}},
		{"an acknowledgement before the syncs", R25, func(s *story) bool {
			i := s.pick(isPromise)
			return doctor(i, func(int) {
				s.events = slices.DeleteFunc(s.events, func(e history.Event) bool { return e.Kind == history.LogSynced && e.At.Source != 1 })
			})
		}},
		{"recovery cuts what was synced", RecoveryCut, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.LogSynced && e.Replica.End > 0 })
			return doctor(i, func(i int) {
				from := s.events[i].Replica.End
				s.add(i, history.Event{Kind: history.LogCut, Replica: &history.Replica{From: from, To: from - 1}})
			})
		}},
		{"a log is opened without what was synced", RecoveryCut, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.LogSynced && e.Replica.End > 0 })
			return doctor(i, func(i int) {
				end := s.events[i].Replica.End
				s.add(i, history.Event{Kind: history.BrokerStart})
				s.add(i+1, history.Event{Kind: history.LogWritten, Replica: &history.Replica{End: end - 1}})
			})
		}},
		{"what is committed is truncated", RecoveryCut, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.HighWatermark && e.Replica.HighWatermark > 0 })
			return doctor(i, func(i int) {
				hw := s.events[i].Replica.HighWatermark
				s.add(i, history.Event{Kind: history.LogTruncated, Replica: &history.Replica{From: hw, To: hw - 1}})
			})
		}},
		{"the log start goes back on a broker", StartMoves, func(s *story) bool {
			return doctor(s.pick(is(history.LogStart)), func(i int) {
				s.add(i, s.events[i])
				s.replica(i+1, func(r *history.Replica) { r.Start-- })
			})
		}},
		{"the log starts above the high watermark", StartMoves, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.HighWatermark && e.Replica.HighWatermark > 0 })
			return doctor(i, func(i int) {
				s.add(i, history.Event{Kind: history.LogStart, Replica: &history.Replica{Start: s.events[i].Replica.HighWatermark + 1}})
			})
		}},
	}
}
