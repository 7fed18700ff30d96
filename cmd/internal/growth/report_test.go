package growth

import (
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// A phase of ten calm seconds and a bad one has a calm p99: the worst second
// shows it, and the line of that second what happened in it.
func TestTheWorstSecondIsSaid(t *testing.T) {
	l := newLoad(1000, 1)
	l.enter("p")
	for n := range 11_000 {
		took := time.Millisecond
		if n/1000 == 7 && n%1000 < 20 {
			took = 80 * time.Millisecond
		}
		l.latencies["p"] = append(l.latencies["p"], latency{time.Duration(n) * time.Millisecond, took})
	}
	l.events["p"] = []event{{7100 * time.Millisecond, handed}, {7200 * time.Millisecond, handed}, {7300 * time.Millisecond, ended}}
	p := l.report("p", 11*time.Second)
	if p.Records != 11_000 || p.P50 != 1 || p.P99 != 1 || p.WorstSecond != 80 || p.Max != 80 {
		t.Errorf("%+v", p)
	}
	seconds := l.seconds("p")
	if len(seconds) != 11 {
		t.Fatalf("%d seconds", len(seconds))
	}
	if s := seconds[7].String(); !strings.Contains(s, "p99    80.0 ms") || !strings.HasSuffix(s, "  1 moves ended  2 leaders changed") {
		t.Errorf("the bad second: %s", s)
	}
	if s := seconds[6].String(); !strings.HasPrefix(s, "  1000 records") || !strings.HasSuffix(s, "max      1.0 ms") {
		t.Errorf("a calm second: %s", s)
	}
}

func TestWhatHappensToAPartitionIsSeen(t *testing.T) {
	at := func(leader int32, isr, replicas, target []int32) *pb.Partition {
		return &pb.Partition{Leader: &pb.LeaderHint{BrokerId: leader}, InSyncReplicas: isr, Replicas: replicas, TargetReplicas: target}
	}
	steps := []*pb.Partition{
		at(4, []int32{4, 1, 2}, []int32{4, 1, 2}, nil),
		at(4, []int32{4, 1, 2}, []int32{4, 1, 2, 3}, []int32{3, 1, 2}),
		at(4, []int32{4, 1, 2, 3}, []int32{4, 1, 2, 3}, []int32{3, 1, 2}),
		at(3, []int32{1, 2, 3}, []int32{3, 1, 2}, nil),
		at(3, []int32{1, 3}, []int32{3, 1, 2}, nil),
	}
	want := [][]kind{{began}, {joined}, {ended, handed}, {left}}
	for i := range want {
		if got := differences(steps[i], steps[i+1]); !slices.Equal(got, want[i]) {
			t.Errorf("step %d: %v, want %v", i+1, got, want[i])
		}
	}
}
