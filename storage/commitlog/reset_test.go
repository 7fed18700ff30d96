package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/storagetest"
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

// TestAnInterruptedResetLeavesOneLog kills the machine after every operation of
// a reset and of what follows, in many ways.
func TestAnInterruptedResetLeavesOneLog(t *testing.T) {
	for seed := range crashSeeds(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			u := newUser(t, seed, seed%2 == 0)
			u.open()
			for range 25 {
				u.append()
				if u.rng.IntN(8) == 0 {
					u.deleteBefore()
				}
			}
			moments := storagetest.Record(u.fs, 1, func() expected { return u.now })
			for range 2 {
				u.reset()
				u.follow()
				u.append()
			}
			for i := range moments.Moments {
				checkMoment(t, u, &moments.Moments[i], seed+uint64(i))
			}
		})
	}
}

// TestAResetOutlivesASegmentOfItsName: what retention took out of the log may
// have the name that the log comes to begin with, and its files are not
// removed yet.
func TestAResetOutlivesASegmentOfItsName(t *testing.T) {
	r := newReplica(t, 500)
	rng := rand.New(rand.NewPCG(1, 1))
	r.lead(20, 1, rng)
	all := r.read(0, r.End())
	end := r.End()
	if _, err := r.DeleteBefore(end - 1); err != nil {
		t.Fatal(err)
	}
	if err := r.ResetTo(0); err != nil {
		t.Fatal(err)
	}
	if err := r.AppendFollowed(record.Pieces{all}); err != nil {
		t.Fatal(err)
	}
	r.RemoveWaste()
	r.reopen()
	if r.End() != end || !bytes.Equal(r.read(0, end), all) {
		t.Fatalf("log is [%d, %d)", r.Start(), r.End())
	}
}
