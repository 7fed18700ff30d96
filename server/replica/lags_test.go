package replica

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// A replica that is filled at a rate gets that much and no more, whatever the
// size of the batches, and whatever the sessions; the others are not held up.
func TestAReplicaIsFilledAtItsRate(t *testing.T) {
	for name, c := range map[string]struct {
		rate, batch int64
	}{
		"small batches":                 {1 << 20, 1 << 10},
		"batches above a second's rate": {64 << 10, 256 << 10},
		"a rate of next to nothing":     {7, 100},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(1)
			const end = 50_000
			h := &paper{}
			h.write(1, end)
			a := three(1, Memory, 1, 2)
			a.Adding, a.AddingRate = []ID{3}, uint64(c.rate)
			l.Lead(a, progress(end, 0), 0)
			begin := func(id ID, session uint64, at record.Offset) {
				l.Open(id, 7, Open{Session: session, Epoch: l.Epoch(), LastEpoch: 1, Progress: progress(at, 0), Credit: 1 << 60}, h)
			}
			begin(2, 1, end-1)
			begin(3, 1, 1)
			const long = 20 * time.Second
			var got int64
			session := uint64(1)
			for now := time.Duration(0); now < long; now += 100 * time.Millisecond {
				if o, ok := l.Offer(2, from(0), now); !ok || !o.Records {
					t.Fatal("who is in sync is held up")
				}
				for {
					o, ok := l.Offer(3, from(0), now)
					if !ok || !o.Records {
						break
					}
					next := o.From + 1
					l.Sent(3, o, next, c.batch, now)
					got += c.batch
					l.Ack(3, Ack{Session: session, Epoch: l.Epoch(), Progress: progress(next, 0), Credit: 1 << 60})
				}
				if int(now/time.Millisecond)%1000 == 500 { // its stream breaks
					session++
					begin(3, session, l.members[l.index(3)].End)
				}
			}
			want := c.rate * int64(long/time.Second)
			slack := c.rate + c.batch // the burst, and the last push
			if got < want-slack || got > want+slack {
				t.Errorf("%d bytes in %v, want %d", got, long, want)
			}
			a.InSync, a.PartitionEpoch = []ID{1, 2, 3}, a.PartitionEpoch+1
			l.Confirm(a)
			if o, ok := l.Offer(3, from(0), long); !ok || !o.Records {
				t.Error("it is in sync, and held up")
			}
		})
	}
}

func TestLagsAreOfRecords(t *testing.T) {
	l := New(1)
	a := three(1, Memory, 1, 2)
	a.Adding = []ID{3}
	l.Lead(a, progress(100, 0), 0)
	resume(t, &l, 2, progress(90, 0))
	lags := l.Lags(nil, 40)
	want := []Lag{{ID: 2, Records: 10, InSync: true}, {ID: 3, Records: 60, Added: true}}
	for i, w := range want {
		if i >= len(lags) || lags[i] != w {
			t.Fatalf("got %+v, want %+v", lags, want)
		}
	}
	l.Resign(record.LeaderEpoch(9))
	if lags = l.Lags(lags[:0], 0); len(lags) != 0 {
		t.Errorf("who leads nothing says %+v", lags)
	}
}
