package election

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// world is a partition and the brokers that the scripts of testdata change.
type world struct {
	p        Partition
	standing map[int32]Standing
	reports  map[int32]Recovered
}

func (w *world) reported(id int32) (Recovered, bool) {
	r, ok := w.reports[id]
	return r, ok
}

func (w *world) of(id int32) Standing { return w.standing[id] }

func (w *world) String() string {
	return fmt.Sprintf("leader=%d epoch=%d isr=%v elr=%v last-known=%v\n", w.p.Leader, w.p.LeaderEpoch, w.p.ISR, w.p.ELR, w.p.LastKnown)
}

// TestScenarios runs the stories of testdata. Every command prints what the
// partition has become.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{standing: map[int32]Standing{}, reports: map[int32]Recovered{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var ids []int32
			for _, a := range d.CmdArgs {
				var id int32
				if _, err := fmt.Sscan(a.Key, &id); err == nil {
					ids = append(ids, id)
				}
			}
			stand := func(s Standing) {
				for _, id := range ids {
					w.standing[id] = s
				}
			}
			switch d.Cmd {
			case "create":
				d.ScanArgs(t, "min", &w.p.MinISR)
				w.p = Partition{Leader: ids[0], LeaderEpoch: 1, Replicas: ids, ISR: ids, MinISR: w.p.MinISR}
				stand(Serving)
				return w.String()
			case "fence":
				stand(Gone)
			case "unfence":
				stand(Serving)
			case "leave":
				stand(Leaving)
			case "impair":
				stand(Impaired)
			case "join-isr": // what a leader proposes when a follower has caught up
				w.p = Propose(w.p, union(w.p.ISR, ids))
			case "leave-isr": // what a leader proposes when a follower is slow
				w.p = Propose(w.p, without(w.p.ISR, in(ids)))
			case "min": // the setting is changed
				w.p.MinISR = int(ids[0])
			case "report": // broker, last epoch, end
				w.reports[ids[0]] = Recovered{LastEpoch: ids[1], End: int64(ids[2])}
				w.p, _ = Recover(w.p, w.of, w.reported)
			case "accept-loss":
				w.p, _ = AcceptLoss(w.p, w.of, w.reported)
			case "awaits":
				return fmt.Sprintln(Awaits(w.p, w.of, w.reported))
			case "distrust":
				w.p, _ = Distrust(w.p, ids[0])
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			w.p, _ = Next(w.p, w.of)
			return w.String()
		})
	})
}

// drawPartition draws a partition that can have come about.
func drawPartition(t *rapid.T) (Partition, map[int32]Standing) {
	replicas := rapid.Permutation([]int32{1, 2, 3, 4, 5}).Draw(t, "order")[:rapid.IntRange(1, 5).Draw(t, "n")]
	p := Partition{Leader: NoLeader, LeaderEpoch: rapid.Int32Range(0, 9).Draw(t, "epoch"), Replicas: replicas}
	p.MinISR = rapid.IntRange(1, len(replicas)).Draw(t, "min")
	standing := map[int32]Standing{}
	for _, id := range replicas {
		standing[id] = rapid.SampledFrom([]Standing{Gone, Leaving, Impaired, Serving}).Draw(t, "standing")
		switch rapid.IntRange(0, 3).Draw(t, "place") {
		case 0, 1:
			p.ISR = append(p.ISR, id)
		case 2:
			p.ELR = append(p.ELR, id)
		default:
			p.LastKnown = append(p.LastKnown, id)
		}
	}
	p = forget(p)
	if len(p.ISR) > 0 && rapid.Bool().Draw(t, "led") {
		p.Leader = rapid.SampledFrom(p.ISR).Draw(t, "leader")
	}
	return p, standing
}

// slowLeader says who should lead, in the words of the rule.
func slowLeader(p Partition, standing map[int32]Standing, isr []int32) int32 {
	best, bestRank := NoLeader, 0
	for i, id := range p.Replicas {
		rank := 0
		inSync, eligible := slices.Contains(isr, id), slices.Contains(p.ELR, id)
		switch {
		case standing[id] == Serving && inSync && id == p.Leader:
			rank = 500
		case standing[id] == Serving && inSync:
			rank = 400 - i
		case standing[id] == Impaired && inSync && id == p.Leader:
			rank = 350
		case standing[id] == Serving && eligible:
			rank = 300 - i
		case standing[id] == Impaired && inSync:
			rank = 270 - i
		case standing[id] == Impaired && eligible:
			rank = 240 - i
		case standing[id] == Leaving && inSync && id == p.Leader:
			rank = 200
		case standing[id] == Leaving && inSync:
			rank = 100 - i
		}
		if rank > bestRank {
			best, bestRank = id, rank
		}
	}
	return best
}

func TestNextKeepsTheInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, standing := drawPartition(t)
		before := fmt.Sprint(p)
		n, diff := Next(p, func(id int32) Standing { return standing[id] })
		if fmt.Sprint(p) != before {
			t.Fatal("the argument changed")
		}
		if again, more := Next(n, func(id int32) Standing { return standing[id] }); more {
			t.Fatalf("not settled: %+v, then %+v", n, again)
		}
		if diff != (fmt.Sprint(n) != before) {
			t.Fatalf("changed = %v, but %s became %v", diff, before, n)
		}
		moved := n.Leader != p.Leader
		if want := p.LeaderEpoch + int32(b2i(moved)); n.LeaderEpoch != want {
			t.Fatalf("epoch %d, want %d", n.LeaderEpoch, want)
		}
		// Who is in sync is not asked of a leader that is Gone, so the slow
		// version need not know which of the gone stays.
		if want := slowLeader(p, standing, p.ISR); n.Leader != want {
			t.Fatalf("leader %d, want %d, of %s", n.Leader, want, before)
		}
		if n.Leader != NoLeader && (!slices.Contains(n.ISR, n.Leader) || standing[n.Leader] == Gone) {
			t.Fatalf("%d leads %+v", n.Leader, n)
		}
		if len(p.ISR) > 0 && len(n.ISR) == 0 {
			t.Fatalf("nobody is in sync any more: %+v", n)
		}
		for _, id := range p.ISR {
			if standing[id] == Impaired && !slices.Contains(n.ISR, id) && n.Leader == p.Leader &&
				!Enough(n, func(id int32) Standing { return standing[id] }) {
				t.Fatalf("an impaired replica is out of sync, and too few are left: %s became %v", before, n)
			}
		}
		for _, id := range slices.Concat(n.ISR, n.ELR) {
			if !slices.Contains(p.ISR, id) && !slices.Contains(p.ELR, id) {
				t.Fatalf("%d was not trusted before: %+v", id, n)
			}
			if slices.Contains(n.ISR, id) && slices.Contains(n.ELR, id) {
				t.Fatalf("%d is both in sync and eligible: %+v", id, n)
			}
		}
	})
}

// history is a partition whose replicas hold records, and whose leader
// acknowledges exactly when it may.
type history struct {
	p              Partition
	min            int // as set
	standing       map[int32]Standing
	has            map[int32]int  // what each replica holds
	lost           map[int32]bool // who lost something since it was last in sync
	acked, written int
}

func (h *history) of(id int32) Standing { return h.standing[id] }

func (h *history) leastISR(replicas []int32) int { return max(1, min(h.min, len(replicas))) }

// step has something happen to a replica.
func (h *history) step(what string, id int32, newMin int) {
	held := slices.Contains(h.p.Replicas, id)
	switch {
	case what == "append" && h.p.Leader != NoLeader:
		h.written++
		for _, r := range h.p.ISR {
			h.has[r] = h.written
		}
		if len(h.p.ISR) >= h.p.MinISR {
			h.acked = h.written
		}
	case what == "slow" && h.p.Leader != NoLeader && id != h.p.Leader && in(h.p.ISR)(id):
		h.p = Propose(h.p, without(h.p.ISR, in([]int32{id})))
	case what == "catch up" && held && h.p.Leader != NoLeader && h.standing[id] == Serving && !in(h.p.ISR)(id):
		h.has[id], h.lost[id] = h.has[h.p.Leader], false
		h.p = Propose(h.p, union(h.p.ISR, []int32{id}))
	case what == "fence":
		h.standing[id] = Gone
	case what == "unfence":
		h.standing[id] = Serving
	case what == "leave":
		h.standing[id] = Leaving
	case what == "impair":
		h.standing[id] = Impaired
	case what == "lose" && held:
		h.standing[id] = Gone
		h.p, _ = Next(h.p, h.of)
		h.p, _ = Distrust(h.p, id)
		h.has[id], h.lost[id] = 0, true
	case what == "min":
		h.min = newMin
		h.p.MinISR = h.leastISR(h.p.Replicas)
	case what == "add" && !held:
		h.p.Replicas = union(h.p.Replicas, []int32{id}) // and the minimum stays
	case what == "leave out" && held && len(h.p.Replicas) > 1:
		rest := without(h.p.Replicas, in([]int32{id}))
		h.p, _ = Narrow(h.p, rest, h.leastISR(rest), h.of)
	case what == "prefer":
		if first := h.p.Replicas[0]; h.p.Leader != NoLeader && h.p.Leader != first && in(h.p.ISR)(first) && h.of(first) == Serving {
			h.p = Succeed(h.p, first)
		}
	}
	h.p, _ = Next(h.p, h.of)
}

// TestWhatWasAcknowledgedIsWithWhomeverMayLead plays partitions whose replicas
// come, go, are slow, are moved and lose their logs. Every acknowledged record
// must then be with every replica that is in sync or eligible; if there are
// none, with one of those last known unless that replica itself lost it.
func TestWhatWasAcknowledgedIsWithWhomeverMayLead(t *testing.T) {
	whats := []string{"append", "slow", "catch up", "fence", "unfence", "leave", "impair", "lose", "min", "add", "leave out", "prefer"}
	rapid.Check(t, func(t *rapid.T) {
		h := &history{min: rapid.IntRange(1, 3).Draw(t, "min"), standing: map[int32]Standing{}, has: map[int32]int{}, lost: map[int32]bool{}}
		for id := int32(1); id <= 4; id++ {
			h.standing[id] = Serving
		}
		h.p = Partition{Leader: 1, LeaderEpoch: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2, 3}, MinISR: h.min}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			epoch, leader := h.p.LeaderEpoch, h.p.Leader
			h.step(rapid.SampledFrom(whats).Draw(t, "step"), rapid.Int32Range(1, 4).Draw(t, "replica"), rapid.IntRange(1, 3).Draw(t, "new min"))
			p := h.p
			if p.LeaderEpoch < epoch || p.Leader != leader && p.LeaderEpoch == epoch {
				t.Fatalf("epoch %d of %d is followed by %+v", epoch, leader, p)
			}
			for _, r := range union(p.ISR, p.ELR) {
				if h.has[r] < h.acked || !in(p.Replicas)(r) {
					t.Fatalf("replica %d may lead with %d of %d acknowledged: %+v", r, h.has[r], h.acked, p)
				}
			}
			if len(p.ISR)+len(p.ELR) == 0 && !slices.ContainsFunc(p.LastKnown, func(r int32) bool { return h.has[r] >= h.acked || h.lost[r] }) {
				t.Fatalf("nobody of %v can have the %d acknowledged; %v", p.LastKnown, h.acked, h.has)
			}
		}
	})
}

// TestTheLastKnownWithTheMostLeads compares Recover with the rule, word by word.
func TestTheLastKnownWithTheMostLeads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, standing := drawPartition(t)
		if rapid.Bool().Draw(t, "none trusted") {
			p.LastKnown, p.ISR, p.ELR, p.Leader = slices.Clone(p.Replicas), nil, nil, NoLeader
		}
		reports := map[int32]Recovered{}
		for _, id := range p.Replicas {
			if rapid.IntRange(0, 4).Draw(t, "reports") > 0 {
				reports[id] = Recovered{LastEpoch: rapid.Int32Range(0, 12).Draw(t, "last"), End: rapid.Int64Range(0, 3).Draw(t, "end")}
			}
		}
		of := func(id int32) Standing { return standing[id] }
		reported := func(id int32) (Recovered, bool) { r, ok := reports[id]; return r, ok }
		n, led := Recover(p, of, reported)
		want := p.Leader == NoLeader && len(p.ISR) == 0 && len(p.ELR) == 0 && len(p.LastKnown) > 0
		top := Recovered{}
		for _, id := range p.LastKnown {
			r, ok := reports[id]
			want = want && ok
			if r.LastEpoch > top.LastEpoch || r.LastEpoch == top.LastEpoch && r.End > top.End {
				top = r
			}
		}
		want = want && slices.ContainsFunc(p.LastKnown, func(id int32) bool { return reports[id] == top && standing[id] != Gone })
		if led != want {
			t.Fatalf("recovered %v, want %v: %+v, %v, %v", led, want, p, standing, reports)
		}
		if !led {
			if p.Leader == NoLeader && len(Awaits(p, of, reported)) == 0 {
				t.Fatalf("nobody leads and nobody is awaited: %+v", p)
			}
			return
		}
		if reports[n.Leader] != top || standing[n.Leader] == Gone || !slices.Equal(n.ISR, []int32{n.Leader}) {
			t.Fatalf("%d leads: %+v, %v", n.Leader, n, reports)
		}
		for _, r := range reports {
			if n.LeaderEpoch <= r.LastEpoch || n.LeaderEpoch <= p.LeaderEpoch {
				t.Fatalf("epoch %d is not new: %+v, %v", n.LeaderEpoch, p, reports)
			}
		}
		if again, more := Next(n, of); more {
			t.Fatalf("not settled: %+v, then %+v", n, again)
		}
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestDistrustTakesEverythingFromAReplica(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, standing := drawPartition(t)
		id := rapid.SampledFrom(p.Replicas).Draw(t, "id")
		n, diff := Distrust(p, id)
		if slices.Contains(n.ISR, id) || slices.Contains(n.ELR, id) || n.Leader == id {
			t.Fatalf("%d is trusted: %+v", id, n)
		}
		if diff && len(n.ISR) < n.MinISR && !slices.Contains(n.LastKnown, id) {
			t.Fatalf("%d is forgotten: %+v", id, n)
		}
		if n, _ = Next(n, func(x int32) Standing { return standing[x] }); n.Leader == id {
			t.Fatalf("%d leads: %+v", id, n)
		}
	})
}

// FuzzScenario makes sure that no story, however odd, breaks the invariants
// that the scripts rely on.
func FuzzScenario(f *testing.F) {
	f.Add([]byte("\x01\x42\x11\x81"))
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 64 {
			return
		}
		var trace bytes.Buffer
		w := &world{p: Partition{Leader: 1, LeaderEpoch: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2, 3}, MinISR: 2}, standing: map[int32]Standing{}}
		for _, b := range script {
			id, epoch := int32(b%3)+1, w.p.LeaderEpoch
			if b&0x80 != 0 {
				w.p, _ = Distrust(w.p, id)
			} else {
				w.standing[id] = Standing(b / 16 % 3)
			}
			w.p, _ = Next(w.p, w.of)
			trace.WriteString(w.String())
			if w.p.LeaderEpoch < epoch || w.p.Leader != NoLeader && w.of(w.p.Leader) == Gone {
				t.Fatalf("broken:\n%s", strings.TrimSpace(trace.String()))
			}
		}
	})
}
