package placement

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func brokers(racks ...string) []Broker {
	bs := make([]Broker, len(racks))
	for i, r := range racks {
		bs[i] = Broker{ID: int32(i), Rack: r}
	}
	return bs
}

func place(t interface{ Fatal(...any) }, bs []Broker, partitions, replicas int) [][]int32 {
	p, err := NewPlacer(bs, replicas)
	if err != nil {
		t.Fatal(err)
	}
	plan := make([][]int32, partitions)
	for i := range plan {
		plan[i] = p.Next()
	}
	return plan
}

// counts returns how many replicas, and how many leaders, each broker has.
func counts(bs []Broker, plan [][]int32) (replicas, leaders []int) {
	r, l := map[int32]int{}, map[int32]int{}
	for _, p := range plan {
		l[p[0]]++
		for _, id := range p {
			r[id]++
		}
	}
	for _, b := range bs {
		replicas, leaders = append(replicas, r[b.ID]), append(leaders, l[b.ID])
	}
	return replicas, leaders
}

func TestOneBrokerTakesEverything(t *testing.T) {
	for _, p := range place(t, brokers(""), 5, 1) {
		if !slices.Equal(p, []int32{0}) {
			t.Errorf("placed on %v", p)
		}
	}
}

func TestReplicasSpreadOverRacks(t *testing.T) {
	bs := brokers("a", "a", "b", "b", "c", "c")
	plan := place(t, bs, 12, 3)
	for i, p := range plan {
		racks := map[string]bool{}
		for _, id := range p {
			racks[bs[id].Rack] = true
		}
		if len(racks) != 3 {
			t.Errorf("partition %d is on %v: %d racks", i, p, len(racks))
		}
	}
	if r, l := counts(bs, plan); !slices.Equal(r, []int{6, 6, 6, 6, 6, 6}) || !slices.Equal(l, []int{2, 2, 2, 2, 2, 2}) {
		t.Errorf("replicas %v, leaders %v", r, l)
	}
}

func TestTooFewBrokers(t *testing.T) {
	_, err := NewPlacer(brokers("", ""), 3)
	if e, ok := errors.AsType[*NotEnoughBrokersError](err); !ok || e.Wanted != 3 || e.Available != 2 {
		t.Errorf("NewPlacer = %v", err)
	}
}

func TestManySmallTopicsAreSpreadTogether(t *testing.T) {
	bs := brokers("", "", "")
	got := map[int32]int{}
	for range 9 {
		id := place(t, bs, 1, 1)[0][0]
		got[id]++
		bs[id].Replicas++
		bs[id].Leaders++
	}
	if fmt.Sprint(got) != "map[0:3 1:3 2:3]" {
		t.Errorf("nine topics of one partition are placed %v", got)
	}
}

// What a restarted controller adds to an unfinished topic is what the first
// would have.
func TestPlacementResumes(t *testing.T) {
	bs := brokers("a", "b", "c", "a", "b")
	whole := place(t, bs, 20, 3)
	for cut := range 20 {
		p, err := NewPlacer(slices.Clone(bs), 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range whole[:cut] {
			p.Placed(r)
		}
		rest := make([][]int32, 0, 20)
		rest = append(rest, whole[:cut]...)
		for range 20 - cut {
			rest = append(rest, p.Next())
		}
		if _, leaders := counts(bs, rest); slices.Max(leaders)-slices.Min(leaders) > 1 {
			t.Errorf("resumed after %d: leaders %v", cut, leaders)
		}
	}
}

func TestPlansKeepTheInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		racks := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c"}), 1, 9).Draw(t, "racks")
		bs := brokers(racks...)
		replicas := rapid.IntRange(1, len(bs)).Draw(t, "replicas")
		partitions := rapid.IntRange(1, 60).Draw(t, "partitions")
		plan := place(t, bs, partitions, replicas)
		if again := place(t, bs, partitions, replicas); fmt.Sprint(again) != fmt.Sprint(plan) {
			t.Fatal("the same input gave another plan")
		}
		perRack := map[string]int{}
		for _, r := range racks {
			perRack[r]++
		}
		for _, p := range plan {
			if len(p) != replicas {
				t.Fatalf("placed on %v, not %d brokers", p, replicas)
			}
			checkSpread(t, bs, perRack, p)
		}
		if _, l := counts(bs, plan); slices.Max(l)-slices.Min(l) > 1 {
			t.Fatalf("leaders %v", l)
		}
	})
}

// checkSpread says it the slow way: no replica could move to a rack that has
// two fewer and a broker to spare.
func checkSpread(t *rapid.T, bs []Broker, perRack map[string]int, p []int32) {
	used := map[string]int{}
	for i, id := range p {
		if slices.Contains(p[:i], id) {
			t.Fatalf("two replicas on one broker: %v", p)
		}
		used[bs[id].Rack]++
	}
	for from := range used {
		for to, room := range perRack {
			if used[to] < room && used[to]+1 < used[from] {
				t.Fatalf("%v has %d replicas on rack %q and %d on %q", p, used[from], from, used[to], to)
			}
		}
	}
}

// In one rack the replicas are as even as the leaders.
func TestReplicasAreEvenWithinOneRack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bs := brokers(make([]string, rapid.IntRange(1, 9).Draw(t, "brokers"))...)
		replicas := rapid.IntRange(1, len(bs)).Draw(t, "replicas")
		plan := place(t, bs, rapid.IntRange(1, 60).Draw(t, "partitions"), replicas)
		if r, _ := counts(bs, plan); slices.Max(r)-slices.Min(r) > 1 {
			t.Fatalf("replicas %v", r)
		}
	})
}

func BenchmarkPlace10000PartitionsOn30Brokers(b *testing.B) {
	bs := make([]Broker, 30)
	for i := range bs {
		bs[i] = Broker{ID: int32(i), Rack: string(rune('a' + i%3))}
	}
	for b.Loop() {
		place(b, bs, 10_000, 3)
	}
}
