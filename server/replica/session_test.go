package replica

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// leading returns broker 1 as the leader of a log, all of which it has synced.
func leading(epoch record.LeaderEpoch, h *paper) *Leader {
	l := New(1)
	l.Lead(three(epoch, Memory, 1, 2, 3), h.written(), 0)
	return &l
}

func TestLogsAreCompared(t *testing.T) {
	h := log([2]int{1, 10}, [2]int{3, 10}, [2]int{6, 10}) // ends 10, 20, 30
	late := log([2]int{6, 10})
	late.start = 20
	for _, c := range []struct {
		story string
		h     *paper
		last  record.LeaderEpoch
		end   record.Offset
		want  Opened
	}{
		{"nothing yet", h, NoEpoch, 0, Opened{}},
		{"a beginning", h, 3, 15, Opened{}},
		{"a beginning that ends with an epoch", h, 3, 20, Opened{}},
		{"all of it", h, 6, 30, Opened{}},
		{"more of an older epoch", h, 3, 25, Opened{Diverged: true, Divergence: Divergence{3, 20}}},
		{"more of the same epoch", h, 6, 31, Opened{Diverged: true, Divergence: Divergence{6, 30}}},
		{"an epoch that the leader never had", h, 5, 15, Opened{Diverged: true, Divergence: Divergence{3, 20}}},
		{"an epoch after all of the leader's", h, 7, 12, Opened{Diverged: true, Divergence: Divergence{6, 30}}},
		{"an epoch before all of the leader's", h, 0, 5, Opened{Reset: true}},
		{"ends before the log start", late, 1, 10, Opened{Reset: true}},
		{"ends at the log start, of another history", late, 3, 20, Opened{Reset: true}},
		{"empty at the log start", late, NoEpoch, 20, Opened{}},
		{"older records beyond the log start", late, 3, 25, Opened{Reset: true}},
		{"the leader's log is empty", log(), 2, 5, Opened{Reset: true}},
		{"both are empty", log(), NoEpoch, 0, Opened{}},
	} {
		l := leading(9, c.h)
		o, _ := l.Open(2, 7, Open{Session: 1, Epoch: 9, LastEpoch: c.last, Progress: progress(c.end, 0)}, c.h)
		if o.Error != NoError || o.Diverged != c.want.Diverged || o.Divergence != c.want.Divergence || o.Reset != c.want.Reset {
			t.Errorf("%s: %+v", c.story, o)
		}
		if o.LogStart != c.h.Start() || o.End != c.h.End() {
			t.Errorf("%s: from %d to %d", c.story, o.LogStart, o.End)
		}
	}
}

func TestSessionsAreFenced(t *testing.T) {
	h := log([2]int{1, 10})
	l := leading(5, h)
	open := func(id ID, broker int64, o Open) SessionError {
		o.LastEpoch, o.Progress = 1, progress(10, 0)
		a, _ := l.Open(id, broker, o, h)
		return a.Error
	}
	for _, c := range []struct {
		story  string
		id     ID
		broker int64
		open   Open
		want   SessionError
	}{
		{"the first", 2, 7, Open{Session: 4, Epoch: 5}, NoError},
		{"the same again", 2, 7, Open{Session: 4, Epoch: 5}, StaleSession},
		{"one that was overtaken on the other stream", 2, 7, Open{Session: 3, Epoch: 5}, StaleSession},
		{"an older incarnation", 2, 6, Open{Session: 9, Epoch: 5}, FencedBrokerEpoch},
		{"a newer incarnation begins to count again", 2, 8, Open{Session: 1, Epoch: 5}, NoError},
		{"an older leader epoch", 3, 7, Open{Session: 1, Epoch: 4}, FencedLeaderEpoch},
		{"a newer leader epoch", 3, 7, Open{Session: 1, Epoch: 6}, UnknownLeaderEpoch},
		{"a stranger", 4, 7, Open{Session: 1, Epoch: 5}, NotReplica},
		{"the leader itself", 1, 7, Open{Session: 1, Epoch: 5}, NotReplica},
	} {
		if got := open(c.id, c.broker, c.open); got != c.want {
			t.Errorf("%s: %d, want %d", c.story, got, c.want)
		}
	}
	l.Resign(6)
	if got := open(3, 7, Open{Session: 1, Epoch: 6}); got != NotLeader {
		t.Errorf("after resigning: %d", got)
	}
}

func TestLateAckDoesNotCountAfterATruncation(t *testing.T) {
	h := log([2]int{1, 10}, [2]int{2, 10})
	l := New(1)
	l.Lead(three(3, Memory, 1, 2).at(0), h.written(), 0)
	l.Open(2, 7, Open{Session: 1, Epoch: 3, LastEpoch: 1, Progress: progress(10, 0)}, h)
	o, _ := l.Offer(2, from(0), 0)
	l.Sent(2, o, 20, 100, 0)
	// It has appended to 15 and died; the ack is still under way when it comes
	// back with less.
	late := Ack{Session: 1, Epoch: 3, Progress: progress(15, 0)}
	l.Open(2, 7, Open{Session: 2, Epoch: 3, LastEpoch: 2, Progress: progress(12, 0)}, h)
	wantHighWatermark(t, &l, 12)
	if e := l.Ack(2, late); !e.Fenced {
		t.Fatal("a false high watermark")
	}
	wantHighWatermark(t, &l, 12)
}

func TestNothingIsSentWithoutCredit(t *testing.T) {
	h := log([2]int{1, 100})
	l := leading(1, h)
	if _, ok := l.Offer(2, from(0), 0); ok {
		t.Fatal("an offer without a session")
	}
	l.Open(2, 7, Open{Session: 1, Epoch: 1, LastEpoch: NoEpoch, Credit: 1000}, h)
	o, ok := l.Offer(2, from(0), 0)
	if !ok || !o.Records || o.Budget != 1000 || !o.Whole || o.From != 0 || o.End != 100 {
		t.Fatalf("%+v", o)
	}
	l.Sent(2, o, 30, 900, 0)
	o, _ = l.Offer(2, from(0), 0)
	if !o.Records || o.Budget != 100 || o.Whole || o.From != 30 {
		t.Fatalf("%+v", o)
	}
	l.Sent(2, o, 35, 150, 0) // the last batch is larger than the rest of the credit
	if o, ok = l.Offer(2, from(0), 0); ok {
		t.Fatalf("%+v", o)
	}
	// Credit is a total: one that comes late or twice does no harm.
	l.Ack(2, Ack{Session: 1, Epoch: 1, Progress: progress(30, 0), Credit: 1900})
	l.Ack(2, Ack{Session: 1, Epoch: 1, Progress: progress(20, 0), Credit: 1600})
	if o, _ = l.Offer(2, from(0), 0); o.Budget != 850 || o.Whole {
		t.Fatalf("%+v", o)
	}
	l.Sent(2, o, 99, 850, 0)
	// The next batch is larger than any credit. It goes when nothing else is
	// under way.
	if _, ok = l.Offer(2, from(0), 0); ok {
		t.Fatal("an offer beyond the credit")
	}
	l.Ack(2, Ack{Session: 1, Epoch: 1, Progress: progress(99, 0), Credit: 1900})
	if o, ok = l.Offer(2, from(0), 0); !ok || !o.Records || !o.Whole || o.Budget != 0 {
		t.Fatalf("%+v", o)
	}
}

func TestEndsAreToldWithin100Milliseconds(t *testing.T) {
	h := log([2]int{1, 10})
	l := leading(1, h)
	l.Open(2, 7, Open{Session: 1, Epoch: 1, LastEpoch: NoEpoch, Credit: 1000}, h)
	resume(t, l, 3, progress(10, 0))
	o, _ := l.Offer(2, from(0), 0)
	l.Sent(2, o, 10, 100, 0)
	if e := l.Ack(2, Ack{Session: 1, Epoch: 1, Progress: progress(10, 0)}); !e.Advanced {
		t.Fatal("all have it")
	}
	if _, ok := l.Offer(2, from(0), 99*time.Millisecond); ok {
		t.Fatal("the next push may still carry it")
	}
	o, ok := l.Offer(2, from(0), 100*time.Millisecond)
	if !ok || o.Records || o.HighWatermark != 10 || o.From != 10 {
		t.Fatalf("%+v", o)
	}
	l.Sent(2, o, o.From, 0, 100*time.Millisecond)
	if _, ok := l.Offer(2, from(0), time.Hour); ok {
		t.Fatal("it was told already")
	}
	if o, ok = l.Offer(2, from(5), time.Hour); !ok || o.LogStart != 5 {
		t.Fatalf("%+v", o)
	}
	// Retention was faster than the follower.
	if o, ok = l.Offer(2, from(11), time.Hour); !ok || o.Closed != BehindLogStart || o.Session != 1 {
		t.Fatalf("%+v", o)
	}
	if _, ok = l.Offer(2, from(11), time.Hour); ok {
		t.Fatal("the session has ended")
	}
}
