package placement

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// layout is a cluster with its partitions.
type layout struct {
	brokers    []Broker
	racks      map[int32]string
	partitions [][]int32
}

// drawLayout draws brokers, on that many racks at most, and partitions of them.
func drawLayout(t *rapid.T, racks int) layout {
	l := layout{racks: map[int32]string{}}
	n := rapid.IntRange(2, 8).Draw(t, "brokers")
	for id := range int32(n) {
		l.racks[id] = string(rune('a' + rapid.IntRange(0, racks-1).Draw(t, "rack")))
		l.brokers = append(l.brokers, Broker{ID: id, Rack: l.racks[id]})
	}
	// A broker was added if not all of them are used.
	used := rapid.IntRange(1, n).Draw(t, "used")
	rf := rapid.IntRange(1, min(3, used)).Draw(t, "rf")
	ids := make([]int32, used)
	for i := range ids {
		ids[i] = int32(i)
	}
	for range rapid.IntRange(0, 30).Draw(t, "partitions") {
		replicas := rapid.Permutation(ids).Draw(t, "replicas")[:rf]
		l.partitions = append(l.partitions, slices.Clone(replicas))
		for i, id := range replicas {
			l.brokers[id].Replicas++
			if i == 0 {
				l.brokers[id].Leaders++
			}
		}
	}
	return l
}

// counts returns how many replicas each broker holds.
func (l layout) counts() []int {
	counts := make([]int, len(l.brokers))
	for _, replicas := range l.partitions {
		for _, id := range replicas {
			counts[id]++
		}
	}
	return counts
}

// leastMoves says how many replicas have to move, in the words of the rule:
// whoever holds more than its share gives the rest away. Where it does not come
// out even, those that hold the most may keep one more.
func leastMoves(counts []int) int {
	sorted := slices.Clone(counts)
	slices.SortFunc(sorted, func(a, b int) int { return b - a })
	total := 0
	for _, c := range sorted {
		total += c
	}
	moves := 0
	for i, c := range sorted {
		share := total / len(sorted)
		if i < total%len(sorted) {
			share++
		}
		moves += max(0, c-share)
	}
	return moves
}

func racksOf(replicas []int32, racks map[int32]string) int {
	seen := map[string]bool{}
	for _, id := range replicas {
		seen[racks[id]] = true
	}
	return len(seen)
}

func distinct(replicas []int32) bool {
	s := slices.Sorted(slices.Values(replicas))
	return len(slices.Compact(s)) == len(replicas)
}

// spread repeats the plan until there is nothing to do, as the controller does,
// and returns how many moves that took.
func (l layout) spread(t interface{ Fatalf(string, ...any) }) (made int) {
	for {
		brokers := slices.Clone(l.brokers)
		for i, c := range l.counts() {
			brokers[i].Replicas = c
		}
		moves := NewMover(brokers, l.racks).Spread(l.partitions, 1000)
		if len(moves) == 0 {
			return made
		}
		for _, m := range moves {
			if !distinct(m.Replicas) || len(m.Replicas) != len(l.partitions[m.Partition]) {
				t.Fatalf("%v becomes %v", l.partitions[m.Partition], m.Replicas)
			}
			l.partitions[m.Partition] = m.Replicas
		}
		made += len(moves)
	}
}

// The plans make all even, with next to no move more than needed: one more where
// the broker that has the least holds what the one that has the most could give.
func TestSpreadingMakesEvenWithFewMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 1)
		want := leastMoves(l.counts())
		made := l.spread(t)
		counts := l.counts()
		if slices.Max(counts)-slices.Min(counts) > 1 {
			t.Fatalf("not even: %v", counts)
		}
		if made < want || made > want+1 {
			t.Fatalf("%d moves, %d would do: %v", made, want, counts)
		}
	})
}

// Broker 1 has too many still when each of its partitions has moved once: it
// goes on in the next plan, and nobody gives more than its share instead.
func TestWhoHoldsTheMostGivesOnInTheNextPlan(t *testing.T) {
	l := layout{racks: map[int32]string{}, partitions: [][]int32{{2, 1}, {2, 1}, {0, 1}, {0, 1}, {1, 2}}}
	for id := range int32(7) {
		l.brokers = append(l.brokers, Broker{ID: id, Leaders: []int{2, 1, 2, 0, 0, 0, 0}[id]})
	}
	if made := l.spread(t); made != 4 {
		t.Errorf("%d moves, 4 would do: %v", made, l.counts())
	}
}

func TestSpreadingLeavesNoPartitionOnFewerRacks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 3)
		most := rapid.IntRange(0, 10).Draw(t, "most")
		before := l.counts()
		moves := NewMover(l.brokers, l.racks).Spread(l.partitions, most)
		if len(moves) > most {
			t.Fatalf("%d moves, allowed are %d", len(moves), most)
		}
		for _, m := range moves {
			if old := l.partitions[m.Partition]; racksOf(m.Replicas, l.racks) < racksOf(old, l.racks) {
				t.Fatalf("%v becomes %v on %v", old, m.Replicas, l.racks)
			}
			l.partitions[m.Partition] = m.Replicas
		}
		if after := l.counts(); len(moves) > 0 && (slices.Max(after) > slices.Max(before) || slices.Min(after) < slices.Min(before)) {
			t.Fatalf("%v becomes %v", before, after)
		}
	})
}

// slowReplace tries every broker.
func slowReplace(l layout, counts []int, replicas []int32, leaving int32) (best int) {
	best = -1
	var bestRacks, bestCount int
	for id := range int32(len(l.brokers)) {
		if id == leaving || slices.Contains(replicas, id) {
			continue
		}
		next := slices.Clone(replicas)
		next[slices.Index(next, leaving)] = id
		same := 0 // replicas that share its rack
		for _, r := range next {
			if r != id && l.racks[r] == l.racks[id] {
				same++
			}
		}
		if best < 0 || same < bestRacks || same == bestRacks && counts[id] < bestCount {
			best, bestRacks, bestCount = int(id), same, counts[id]
		}
	}
	return best
}

func TestAReplacementIsTheBestThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 3)
		leaving := int32(rapid.IntRange(0, len(l.brokers)-1).Draw(t, "leaving"))
		takers := slices.DeleteFunc(slices.Clone(l.brokers), func(b Broker) bool { return b.ID == leaving })
		m := NewMover(takers, l.racks)
		for n, replicas := range l.partitions {
			if !slices.Contains(replicas, leaving) {
				continue
			}
			counts := l.counts()
			want := slowReplace(l, counts, replicas, leaving)
			got, err := m.Replace(replicas, leaving)
			if e, ok := errors.AsType[*NotEnoughBrokersError](err); want < 0 {
				if !ok || e.Wanted != len(replicas) {
					t.Fatalf("there is nobody for %v: %v, %v", replicas, got, err)
				}
				continue
			}
			if err != nil || !distinct(got) || slices.Contains(got, leaving) {
				t.Fatalf("%v becomes %v, %v", replicas, got, err)
			}
			at := slices.Index(replicas, leaving)
			shared := func(id int32) (same int) {
				for i, r := range got {
					if i != at && l.racks[r] == l.racks[id] {
						same++
					}
				}
				return same
			}
			if id := got[at]; shared(id) != shared(int32(want)) || counts[id] != counts[want] {
				t.Fatalf("%v becomes %v; %d would be better", replicas, got, want)
			}
			for i, id := range replicas {
				if i != at && got[i] != id {
					t.Fatalf("%v becomes %v: more than one replica moves", replicas, got)
				}
			}
			l.partitions[n] = got
		}
	})
}
