package check

import (
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

func mutations() []mutation {
	return slices.Concat(recorderMutations(), logMutations(), readMutations(), leaderMutations(), replicaMutations(), metadataMutations(), recoveryMutations())
}

func recorderMutations() []mutation {
	return []mutation{
		{"an append is completed twice", Whole, func(s *story) bool {
			return doctor(s.pick(isPromise), func(i int) { s.add(i, s.events[i]) })
		}},
		{"an event lacks what it is about", Whole, func(s *story) bool {
			return doctor(s.pick(isPromise), func(i int) { s.events[i].Ack = nil })
		}},
		{"a kind of event is not known", Whole, func(s *story) bool {
			return doctor(s.pick(isPromise), func(i int) { s.events[i].Kind = "append.maybe" })
		}},
	}
}

// logMutations are about what is where.
func logMutations() []mutation {
	isLastFrame := func(s *story) func(e *history.Event) bool {
		last := -1
		for i := range s.events {
			if isDrain(&s.events[i]) {
				last = i
			}
		}
		return func(e *history.Event) bool { return last >= 0 && e == &s.events[last] }
	}
	return []mutation{
		{"a reader gets another content", R1, func(s *story) bool {
			i, b := s.promisedFrame(isRead)
			return doctor(i, func(i int) {
				s.edit(i, func(l []history.Batch) []history.Batch { l[b].Digest ^= 1; return l })
			})
		}},
		{"a replica holds another content", R1, func(s *story) bool {
			i, b := s.promisedFrame(isDump)
			return doctor(i, func(i int) {
				s.edit(i, func(l []history.Batch) []history.Batch { l[b].Digest ^= 1; return l })
			})
		}},
		{"an acknowledgement names another offset", R1, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return isPromise(e) && e.Ack.Base > 20 })
			return doctor(i, func(i int) { s.ack(i, func(a *history.Ack) { a.Base-- }) })
		}},
		{"a batch is in the log twice", R2, func(s *story) bool {
			return doctor(s.pick(isLastFrame(s)), func(i int) {
				s.edit(i, func(l []history.Batch) []history.Batch {
					again := l[0]
					again.Base = end(l, 0)
					again.Epoch = s.lastEpoch() // a leader alone may have had something there
					return append(l, again)
				})
				s.read(i, func(r *history.Read) {
					r.Next = end(s.events[i].Batches, 0)
					r.HighWatermark = r.Next
				})
			})
		}},
		{"a reader is not given an acknowledged batch", R3, func(s *story) bool {
			i, b := s.promisedFrame(isRead)
			return doctor(i, func(i int) { s.edit(i, dropBatch(b)) })
		}},
		{"the last read lacks an acknowledged batch", R4, func(s *story) bool {
			i, b := s.promisedFrame(isDrain)
			return doctor(i, func(i int) { s.edit(i, dropBatch(b)) })
		}},
		{"the last read has another batch there", R4, func(s *story) bool {
			i, b := s.promisedFrame(isDrain)
			return doctor(i, func(i int) {
				s.edit(i, func(l []history.Batch) []history.Batch { l[b].Digest ^= 1; return l })
			})
		}},
		{"the last read ends too early", R4, func(s *story) bool {
			i, b := s.promisedFrame(isLastFrame(s))
			return doctor(i, func(i int) {
				s.edit(i, func(l []history.Batch) []history.Batch { return l[:b] })
				next := end(s.events[i].Batches, s.events[i].Read.From)
				s.read(i, func(r *history.Read) { r.Next = next })
				s.read(i+1, func(r *history.Read) { r.From, r.Next = next, next })
			})
		}},
		{"a replica lacks an acknowledged batch", R4, func(s *story) bool {
			i, b := s.promisedFrame(isDump)
			return doctor(i, func(i int) { s.edit(i, dropBatch(b)) })
		}},
		{"the start of the log is gone and nobody has moved it", R4, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.LogStart })
			if i < 0 {
				return false
			}
			s.events = slices.DeleteFunc(s.events, func(e history.Event) bool { return e.Kind == history.LogStart })
			return true
		}},
		{"the last read does not end", R5, func(s *story) bool {
			i := s.pick(func(e *history.Event) bool { return e.Kind == history.ReadEnd && e.Read.Reader == 9 })
			return doctor(i, s.remove)
		}},
		{"nobody is given an acknowledged batch", R5, func(s *story) bool {
			i, b := s.promisedFrame(isDrain)
			return doctor(i, func(i int) {
				base := s.events[i].Batches[b].Base
				for i := range s.events {
					if s.events[i].Kind == history.ReadOK {
						s.edit(i, func(l []history.Batch) []history.Batch {
							return slices.DeleteFunc(l, func(b history.Batch) bool { return b.Base == base })
						})
					}
				}
			})
		}},
		{"what was acknowledged has failed", R6, func(s *story) bool {
			i, b := s.promisedFrame(isDrain)
			return doctor(i, func(i int) {
				ok, _ := s.promised(&s.events[i].Batches[b])
				s.events[ok].Kind, s.events[ok].Ack = history.AppendFail, nil
			})
		}},
		{"two appends of a session change places", R10, func(s *story) bool {
			ops := map[uint64]uint64{} // by session
			for i := range s.events {
				if !isPromise(&s.events[i]) {
					continue
				}
				op := s.events[i].Op
				session := s.events[s.invoked(op)].Append.Session
				if other := ops[session]; other != 0 {
					for i := range s.events {
						switch e := &s.events[i]; e.Op {
						case op:
							e.Op = other
						case other:
							e.Op = op
						}
					}
					return true
				}
				ops[session] = op
			}
			return false
		}},
		{"the last read lacks offsets", R11, func(s *story) bool {
			i := s.pick(isDrain)
			return doctor(i, func(i int) { s.edit(i, dropBatch(s.IntN(len(s.events[i].Batches)))) })
		}},
		{"an append comes before what was there when it began", R14, func(s *story) bool {
			var oks []int
			for i := range s.events {
				if isPromise(&s.events[i]) {
					oks = append(oks, i)
				}
			}
			if len(oks) < 2 {
				return false
			}
			first, second := oks[0], oks[1]
			at := s.invoked(s.events[first].Op)
			invoke, ok := s.events[at], s.events[first]
			s.events = slices.Insert(s.events, second+1, invoke, ok)
			s.remove(first)
			s.remove(at)
			return true
		}},
		{"a batch that nobody appended", R14, func(s *story) bool {
			i, b := s.promisedFrame(isDrain)
			return doctor(i, func(i int) {
				ok, _ := s.promised(&s.events[i].Batches[b])
				op := s.events[ok].Op
				s.events = slices.DeleteFunc(s.events, func(e history.Event) bool { return e.Op == op })
			})
		}},
		{"a batch has two epochs", ValidLog, func(s *story) bool {
			i, b := s.promisedFrame(isDrain)
			return doctor(i, func(i int) {
				s.edit(i, func(l []history.Batch) []history.Batch { l[b].Epoch++; return l })
			})
		}},
		{"an epoch falls along the log", ValidLog, func(s *story) bool {
			// One batch that is not the last has everywhere the epoch after the last.
			i, b := s.promisedFrame(isDrain)
			if i < 0 || end(s.events[i].Batches[:b+1], 0) == s.events[i].Read.HighWatermark {
				return false
			}
			base := s.events[i].Batches[b].Base
			epoch := s.lastEpoch()
			for i := range s.events {
				e := &s.events[i]
				if isPromise(e) && e.Ack.Base == base {
					s.ack(i, func(a *history.Ack) { a.Epoch = epoch + 1 })
				}
				s.edit(i, func(l []history.Batch) []history.Batch {
					for i := range l {
						if l[i].Base == base {
							l[i].Epoch = epoch + 1
						}
					}
					return l
				})
			}
			return true
		}},
	}
}

// readMutations are about where readers are.
func readMutations() []mutation {
	two := func(e *history.Event) bool { return e.Kind == history.ReadOK && len(e.Batches) > 1 }
	// second finds a frame that follows another of the same read.
	second := func(s *story) int {
		framed := map[uint64]bool{}
		for i := range s.events {
			switch e := &s.events[i]; e.Kind { //nolint:exhaustive // the others stay as they are
			case history.ReadBegin:
				framed[e.Read.Reader] = false
			case history.ReadOK:
				if framed[e.Read.Reader] {
					return i
				}
				framed[e.Read.Reader] = true
			}
		}
		return -1
	}
	// before finds the frame before, of the same reader.
	before := func(s *story, i int) int {
		for j := i - 1; j >= 0; j-- {
			if s.events[j].Kind == history.ReadOK && s.events[j].Read.Reader == s.events[i].Read.Reader {
				return j
			}
		}
		return -1
	}
	return []mutation{
		{"two batches of a frame change places", R8, func(s *story) bool {
			return doctor(s.pick(two), func(i int) {
				s.edit(i, func(l []history.Batch) []history.Batch { l[0], l[1] = l[1], l[0]; return l })
			})
		}},
		{"a frame passes over a batch", R8, func(s *story) bool {
			i, b := s.promisedFrame(two)
			return doctor(i, func(i int) { s.edit(i, dropBatch(b)) })
		}},
		{"a frame is left out", R9, func(s *story) bool {
			var frames []int
			for i := range s.events {
				if isDrain(&s.events[i]) {
					frames = append(frames, i)
				}
			}
			if len(frames) < 3 {
				return false
			}
			s.remove(frames[1])
			return true
		}},
		{"a frame comes twice", R9, func(s *story) bool {
			return doctor(s.pick(two), func(i int) { s.add(i, s.events[i]) })
		}},
		{"a read to the end ends too early", R14, func(s *story) bool {
			// Reader 3 is told, at its first frame, that it is at the end.
			acked := int64(0)
			asked := int64(-1)
			for i := range s.events {
				e := &s.events[i]
				switch {
				case isPromise(e):
					acked = max(acked, e.Ack.Base+1)
				case e.Kind == history.ReadBegin && e.Read.Reader == 3:
					asked = acked
				case e.Kind == history.ReadOK && e.Read.Reader == 3:
					if e.Read.Next >= asked {
						return false
					}
					next := e.Read.Next
					s.add(i, history.Event{Kind: history.ReadEnd, Read: &history.Read{Reader: 3, From: next, Next: next, Finished: true}})
					return true
				}
			}
			return false
		}},
		{"the high watermark goes back for a reader", R15, func(s *story) bool {
			i := second(s)
			return doctor(i, func(i int) {
				s.read(before(s, i), func(r *history.Read) { r.HighWatermark = s.events[i].Read.HighWatermark + 1 })
			})
		}},
		{"a batch above the high watermark is delivered", R15, func(s *story) bool {
			return doctor(s.pick(two), func(i int) { s.read(i, func(r *history.Read) { r.HighWatermark = r.Next - 1 }) })
		}},
		{"a reader begins elsewhere than it was", R23, func(s *story) bool {
			ended := map[uint64]bool{}
			for i := range s.events {
				e := &s.events[i]
				switch {
				case e.Kind == history.ReadBegin && ended[e.Read.Reader] && e.Read.Seek:
					s.read(i, func(r *history.Read) { r.Seek, r.From = false, 1<<40 })
					return true
				case e.Read != nil:
					ended[e.Read.Reader] = e.Kind == history.ReadEnd
				}
			}
			return false
		}},
		{"the first frame is not where it was asked for", R23, func(s *story) bool {
			framed := map[uint64]bool{}
			for i := range s.events {
				e := &s.events[i]
				if e.Kind == history.ReadOK && !framed[e.Read.Reader] && len(e.Batches) > 1 {
					s.edit(i, dropBatch(0))
					s.read(i, func(r *history.Read) { r.From = s.events[i].Batches[0].Base })
					return true
				}
				if e.Kind == history.ReadOK {
					framed[e.Read.Reader] = true
				}
			}
			return false
		}},
		{"the log start goes back for a reader", StartMoves, func(s *story) bool {
			i := second(s)
			return doctor(i, func(i int) {
				s.read(before(s, i), func(r *history.Read) { r.LogStart = s.events[i].Read.LogStart + 1 })
			})
		}},
	}
}
