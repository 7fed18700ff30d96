package commitlog_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

func (r *replica) isEmptyAt(at record.Offset) {
	r.t.Helper()
	if r.Start() != at || r.End() != at || r.SyncedEnd() != at || r.LastEpoch() != commitlog.NoEpoch {
		r.t.Fatalf("log is [%d, %d), synced to %d, epoch %d; not empty at %d", r.Start(), r.End(), r.SyncedEnd(), r.LastEpoch(), at)
	}
	if e, end := r.EpochEnd(100); e != commitlog.NoEpoch || end != at {
		r.t.Fatalf("epoch %d ends at %d", e, end)
	}
	if r.Segments() != 0 || r.Size() != 0 {
		r.t.Fatalf("%d segments, %d bytes", r.Segments(), r.Size())
	}
}

func TestALogBeginsAgainElsewhere(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 4))
		leader, follower := newReplica(t, 900), newReplica(t, 700)
		leader.lead(40, 3, rng)
		leader.lead(10, 5, rng)
		for range 4 {
			at := record.Offset(0)
			if rng.IntN(4) > 0 {
				at = batchAt(leader, record.Offset(rng.Int64N(int64(leader.End()))))
			}
			if err := follower.ResetTo(at); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			follower.isEmptyAt(at)
			if rng.IntN(2) == 0 {
				follower.reopen()
				follower.isEmptyAt(at)
			}
			if rng.IntN(5) == 0 {
				continue
			}
			want := leader.read(at, leader.End())
			if err := follower.AppendFollowed(cut(want, rng, 300)); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(2) == 0 {
				if _, err := follower.DeleteBefore(at + (leader.End()-at)/2); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(want, follower.read(at, leader.End())) {
				t.Fatalf("seed %d: the bytes differ", seed)
			}
			if rng.IntN(2) == 0 {
				follower.reopen()
			}
			if follower.End() != leader.End() {
				t.Fatalf("end is %d, not %d", follower.End(), leader.End())
			}
		}
	}
}

// batchAt returns the begin of the batch that holds off.
func batchAt(r *replica, off record.Offset) record.Offset {
	r.t.Helper()
	g, err := r.NewReader().Read(off, r.End(), 1, func(n int) []byte { return make([]byte, n) })
	if err != nil {
		r.t.Fatal(err)
	}
	return g.First
}

func TestALogDoesNotBeginBeforeAllOffsets(t *testing.T) {
	r := newReplica(t, 900)
	var out *commitlog.OffsetOutOfRangeError
	if err := r.ResetTo(-1); !errors.As(err, &out) {
		t.Fatalf("error is %v", err)
	}
	r.isEmptyAt(0)
}
