package chaos

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// The seed decides all that the nemesis draws, in the order in which it draws.
func TestTheSameSeedDrawsTheSame(t *testing.T) {
	draw := func(seed uint64) (drawn []string) {
		r := &run{random: rand.New(rand.NewPCG(seed, 0)), o: Options{Faults: Defaults(true, true)}}
		for range 20 {
			after, name := r.draw()
			drawn = append(drawn, fmt.Sprint(after, name, r.between(0, time.Second)))
		}
		return drawn
	}
	if !slices.Equal(draw(7), draw(7)) || slices.Equal(draw(7), draw(8)) {
		t.Error("the seed does not decide")
	}
}

func TestEveryDefaultIsOnTheMenu(t *testing.T) {
	for _, has := range []struct{ network, disks bool }{{}, {network: true}, {disks: true}, {network: true, disks: true}} {
		for _, name := range Defaults(has.network, has.disks) {
			if f := menu[name]; f.make == nil || f.network && !has.network || f.disk && !has.disks {
				t.Errorf("%s is not, or takes more than %+v", name, has)
			}
		}
	}
	_, _, err := Run(t.Context(), Options{Faults: []string{"kill", "earthquake"}})
	if err == nil || !strings.Contains(err.Error(), "earthquake") {
		t.Errorf("a fault that is not on the menu: %v", err)
	}
}

// A fault that the machine cannot make is refused when it is asked for, with
// what is missing; without it the run has what it can.
func TestAFaultThatCannotBeMadeIsRefused(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may be able to make all of them")
	}
	for _, name := range []string{"partition", "one-way", "lost-writes", "disk-full", "last-standing", "power-loop"} {
		_, _, err := Run(t.Context(), Options{Faults: []string{"kill", name}, Out: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "root") && runtime.GOOS == "linux" {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := Options{Out: io.Discard}
	g, err := openRig(&o, t.TempDir())
	if err != nil || g.hosts() != nil || !slices.Equal(o.Faults, Defaults(false, false)) {
		t.Errorf("without root it makes %v: %v", o.Faults, err)
	}
}

// Sealed are all segments but the last of each log.
func TestOnlySealedSegmentsAreDamaged(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a-0/00.log", "a-0/05.log", "a-0/05.index", "a-0/07.log", "a-1/00.log"} {
		path := filepath.Join(dir, "topics", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sealed, err := sealedSegments(dir)
	if err != nil || len(sealed) != 2 || filepath.Base(sealed[0]) != "00.log" || filepath.Base(sealed[1]) != "05.log" {
		t.Fatalf("sealed are %v: %v", sealed, err)
	}
	damaged, err := flip(sealed[1], 1<<63+12345, 3)
	if err != nil || damaged.at < 25 || damaged.at >= 75 || !damaged.there() {
		t.Fatalf("damaged is %+v: %v", damaged, err)
	}
	b, err := os.ReadFile(sealed[1])
	if err != nil || b[damaged.at] != 1<<3 {
		t.Errorf("the byte is %d: %v", b[damaged.at], err)
	}
	// The damaged one is kept, as in the trash.
	if err := errors.Join(os.Link(sealed[1], sealed[1]+".damaged"), os.Remove(sealed[1])); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sealed[1], b, 0o600); err != nil || damaged.there() {
		t.Errorf("another file is taken for it: %v", err)
	}
}

// Only what was put aside as damaged counts, and not what was deleted.
func TestLogsThatWerePutAsideAreFound(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a-0.1", "a-1.2.now", "a-2.3.damaged"} {
		if err := os.MkdirAll(filepath.Join(dir, "trash", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	aside, err := damagedLogs(dir)
	if err != nil || len(aside) != 1 || filepath.Base(aside[0]) != "a-2.3.damaged" {
		t.Errorf("put aside are %v: %v", aside, err)
	}
}

// Whoever is cut off, a majority of brokers and of controllers is not, and
// nobody is cut off from itself.
func TestACutLeavesAMajority(t *testing.T) {
	brokers, controllers := []string{"b1", "b2", "b3"}, []string{"c1", "c2", "c3"}
	random := rand.New(rand.NewPCG(7, 0))
	kinds := map[string]int{}
	for range 300 {
		alone, others := drawCut(random, brokers, controllers)
		if slices.Contains(others, alone) || len(others) == 0 || !slices.Contains(append(brokers, controllers...), alone) {
			t.Fatalf("%s is cut off from %v", alone, others)
		}
		kinds[fmt.Sprintf("%c from %d, clients %t", alone[0], len(others), slices.Contains(others, clients))]++
	}
	if len(kinds) != 6 {
		t.Errorf("drawn were %v", kinds)
	}
	if !slices.Equal(brokers, []string{"b1", "b2", "b3"}) {
		t.Errorf("the brokers are %v now", brokers)
	}
	first, others := drawCut(rand.New(rand.NewPCG(7, 1)), brokers, controllers)
	again, same := drawCut(rand.New(rand.NewPCG(7, 1)), brokers, controllers)
	if first != again || !slices.Equal(others, same) {
		t.Error("the seed does not decide")
	}
}

// Each partition of each topic has its share of the requests, and its own gap.
func TestAGapOfOnePartitionIsNotHiddenByTheOthers(t *testing.T) {
	places := map[uint64]int{}
	for n := range uint64(160) {
		req := request(3<<requestBits | n)
		if placeOf(req.GetCorrelationId()) != n%uint64(len(topics)*partitions) {
			t.Fatalf("request %d is of place %d", n, placeOf(req.GetCorrelationId()))
		}
		places[uint64(slices.Index(topics[:], req.GetTopic()))+uint64(len(topics))*uint64(req.GetPartition())]++
	}
	for place := range uint64(len(topics) * partitions) {
		if places[place] != 20 {
			t.Errorf("%d requests of place %d", places[place], place)
		}
	}
	var all tally
	all.last = map[uint64]time.Time{0: time.Now().Add(-time.Hour), 1: time.Now()}
	all.ack(1)
	all.settle()
	if longest := all.longest(); longest.Duration < time.Hour || longest.place != 0 {
		t.Errorf("the longest gap is %v of place %d, and place 0 was silent for an hour", longest.Duration, longest.place)
	}
}

// A script that has turns goes through all of them, wherever the seed begins.
func TestScriptsGoThroughAllTheirTurns(t *testing.T) {
	for _, seed := range []uint64{0, 7, 1<<64 - 1} {
		r := &run{o: Options{Seed: seed}, turns: map[string]int{}}
		seen := map[string]bool{}
		for range len(orders) {
			order := orderOf(r.turn("one"))
			r.turn("another")
			seen[fmt.Sprint(order)] = true
			if sorted := slices.Sorted(slices.Values(order)); !slices.Equal(sorted, []int{0, 1, 2}) {
				t.Errorf("%v is no order of three", order)
			}
		}
		if len(seen) != 6 {
			t.Errorf("seed %d: in six turns they come back in the orders %v", seed, seen)
		}
	}
	if a, b := (&run{o: Options{Seed: 1}, turns: map[string]int{}}), (&run{o: Options{Seed: 2}, turns: map[string]int{}}); a.turn("x") == b.turn("x") {
		t.Error("the seed does not decide where they begin")
	}
}

// The waits of a script end with the time of the run.
func TestAScriptWaitsNoLongerThanTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{random: rand.New(rand.NewPCG(7, 0)), until: time.Now().Add(10 * time.Second)}
		begun := time.Now()
		r.linger(t.Context(), 4*time.Second, 5*time.Second)
		if took := time.Since(begun); took < 4*time.Second || took >= 5*time.Second || r.over() {
			t.Errorf("it waited for %v, of 10 s: over is %t", took, r.over())
		}
		for range 3 {
			r.linger(t.Context(), 4*time.Second, 5*time.Second)
		}
		if took := time.Since(begun); took != 10*time.Second || !r.over() {
			t.Errorf("its waits took %v, of 10 s: over is %t", took, r.over())
		}
	})
}

// Who is led by nobody has to say for whom it waits.
func TestAPartitionIsNotOfflineInSilence(t *testing.T) {
	waits := func(p uint32, awaited ...int32) *pb.OfflinePartition {
		return &pb.OfflinePartition{Topic: "disk", Partition: p, AwaitedBrokerIds: awaited}
	}
	for _, c := range []struct {
		name  string
		told  []*pb.OfflinePartition
		unled uint32
		text  string
		fails bool
	}{
		{"all are led", nil, 0, "", false},
		{"all say whom they wait for", []*pb.OfflinePartition{waits(0, 3, 1), waits(1, 2), waits(2, 1, 3)}, 3, "disk/0 disk/2 for [1 3], disk/1 for [2]", false},
		{"one is led again meanwhile", []*pb.OfflinePartition{waits(0, 1)}, 0, "disk/0 for [1]", false},
		{"one waits for nobody", []*pb.OfflinePartition{waits(0, 1), waits(1)}, 2, "", true},
		{"one says nothing", []*pb.OfflinePartition{waits(0, 1)}, 2, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := judgeOffline(c.told, c.unled)
			if text != c.text || (err != nil) != c.fails {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

// What was acknowledged has to be there, in its order; more may be.
func TestWhatIsMissingOfAWideTopicIsFound(t *testing.T) {
	for _, c := range []struct{ acked, there, missing string }{
		{"", "", ""},
		{"", "a", ""},
		{"a c", "a b c d", ""},
		{"a c", "a b d", "c"},
		{"a c", "c a", "c"},
		{"a", "", "a"},
	} {
		if got := missing(strings.Fields(c.acked), strings.Fields(c.there)); got != c.missing {
			t.Errorf("of %q in %q is missing %q, want %q", c.acked, c.there, got, c.missing)
		}
	}
	if at := differs("a\nb\n", "a\nc\n"); at != "c" {
		t.Errorf("they differ at %q", at)
	}
	if at := differs("a\n", "a\n"); at != "" {
		t.Errorf("the same differ at %q", at)
	}
}

// fakeMember is a member whose processes end when the test says so.
type fakeMember struct{ exited chan struct{} }

func (m *fakeMember) Name() string            { return "broker-1" }
func (m *fakeMember) LogFile() string         { return "broker-1.log" }
func (m *fakeMember) Exited() <-chan struct{} { return m.exited }

func (m *fakeMember) start(g *guard) {
	m.exited = make(chan struct{})
	g.started(m)
}

// A process that was meant to end is not taken for one that crashed, however
// soon another is started; and one that has ended by itself is not excused by
// what comes later.
func TestAGuardTellsProcessesOfAMemberApart(t *testing.T) {
	for _, c := range []struct {
		name  string
		play  func(g *guard, m *fakeMember)
		fails bool
	}{
		{"meant to end, and started again at once", func(g *guard, m *fakeMember) {
			g.expect(m)
			close(m.exited)
			m.start(g)
		}, false},
		{"ended by itself", func(_ *guard, m *fakeMember) { close(m.exited) }, true},
		{"ended by itself just before it was meant to", func(g *guard, m *fakeMember) {
			close(m.exited)
			g.expect(m)
		}, true},
		{"the next one ended by itself", func(g *guard, m *fakeMember) {
			g.expect(m)
			close(m.exited)
			m.start(g)
			close(m.exited)
		}, true},
		{"all are meant to end", func(g *guard, m *fakeMember) {
			g.expectAll()
			close(m.exited)
		}, false},
		{"ended by itself just before all were meant to", func(g *guard, m *fakeMember) {
			close(m.exited)
			g.expectAll()
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g guard
			m := &fakeMember{}
			m.start(&g)
			c.play(&g, m)
			if err := g.verdict(); (err != nil) != c.fails {
				t.Errorf("verdict: %v", err)
			}
		})
	}
}

func TestAGuardRemembersWhatNoRuleSees(t *testing.T) {
	var g guard
	if err := g.verdict(); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("refused")
	g.note(cause)
	if err := g.verdict(); !errors.Is(err, cause) {
		t.Errorf("verdict %v", err)
	}
}

// A run does not end before every partition has acknowledged something since all
// was mended, and names one that does not.
func TestAPartitionThatAcknowledgesNothingIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{}
		for place := range uint64(len(topics) * partitions) {
			r.tally.ack(place)
		}
		<-time.After(time.Second)
		mended := time.Now()
		time.AfterFunc(time.Second, func() {
			for place := range uint64(len(topics) * partitions) {
				if place != 3 {
					r.tally.ack(place)
				}
			}
		})
		topic, partition := partitionOf(3)
		if err := r.recovered(t.Context(), mended); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s/%d", topic, partition)) {
			t.Errorf("%s/%d is stuck, and it says %v", topic, partition, err)
		}
		r.tally.ack(3)
		if err := r.recovered(t.Context(), mended); err != nil {
			t.Error(err)
		}
	})
}

// What one admin has seen, the others may ask for.
func TestTheGreatestRevisionIsKept(t *testing.T) {
	var l ledger
	for _, revision := range []int64{3, 7, 5} {
		l.saw(revision)
	}
	if l.seen.Load() != 7 {
		t.Errorf("%d is kept", l.seen.Load())
	}
}
