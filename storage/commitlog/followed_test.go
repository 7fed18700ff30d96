package commitlog_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// replica is a log on a disk of its own.
type replica struct {
	t     *testing.T
	fs    *memfs.FS
	clock clock
	*commitlog.Log
}

func newReplica(t *testing.T, segmentBytes int64) *replica {
	t.Helper()
	r := &replica{t: t, fs: memfs.New(), clock: clock{ms: 1}}
	o := options(r.fs, &r.clock, 1)
	o.Config.SegmentBytes = segmentBytes
	l, _, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Log = l
	return r
}

// reopen closes the log and opens it again.
func (r *replica) reopen() {
	r.t.Helper()
	c := r.Config()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
	o := options(r.fs, &r.clock, 1)
	o.Config = c
	l, rec, err := commitlog.Open(o)
	if err != nil || rec.Damaged != nil || rec.TailCut {
		r.t.Fatalf("%+v, %v", rec, err)
	}
	r.Log = l
}

// lead appends so many batches in an epoch.
func (r *replica) lead(batches int, epoch record.LeaderEpoch, rng *rand.Rand) {
	r.t.Helper()
	for range batches {
		r.clock.ms += rng.Int64N(100)
		b := storagetest.NewBatch("v"+strconv.FormatInt(int64(r.End()), 10), 1+rng.IntN(3), storagetest.Sized(rng.IntN(300)))
		if err := r.Append([]*commitlog.Batch{b}, epoch, r.End()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// read returns the bytes of [from, end), in whole batches.
func (r *replica) read(from, end record.Offset) []byte {
	r.t.Helper()
	var out []byte
	reader := r.NewReader()
	for from < end {
		g, err := reader.Read(from, end, 1<<20, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			r.t.Fatalf("read at %d: %v", from, err)
		}
		out, from = append(out, g.Bytes...), g.Next
	}
	return out
}

// cut cuts bytes anywhere, also into nothing.
func cut(b []byte, rng *rand.Rand, longest int) record.Pieces {
	p := record.Pieces{nil}
	for len(b) > 0 {
		n := min(len(b), rng.IntN(longest+1))
		p = append(p, slices.Clone(b[:n]))
		b = b[n:]
	}
	return append(p, []byte{})
}

func epochs(r *replica, until record.LeaderEpoch) []record.Offset {
	var ends []record.Offset
	for e := range until + 1 {
		_, end := r.EpochEnd(e)
		ends = append(ends, end)
	}
	return ends
}

func TestAFollowersLogHasTheBytesOfItsLeader(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		leader, follower := newReplica(t, 900), newReplica(t, 400+rng.Int64N(3000))
		const last = 5
		for e := range record.LeaderEpoch(last) {
			leader.lead(rng.IntN(20), e+1, rng)
		}
		for follower.End() < leader.End() {
			// A range ends where the leader's segment or its patience ends.
			g, err := leader.NewReader().Read(follower.End(), leader.End(), rng.IntN(5000), func(n int) []byte { return make([]byte, n) })
			if err != nil {
				t.Fatal(err)
			}
			if err := follower.AppendFollowed(cut(g.Bytes, rng, []int{1, 7, 100, 16 << 10}[rng.IntN(4)])); err != nil {
				t.Fatal(err)
			}
			if follower.End() != g.Next {
				t.Fatalf("seed %d: end is %d after [%d, %d)", seed, follower.End(), g.First, g.Next)
			}
			if rng.IntN(5) == 0 {
				follower.reopen()
			}
		}
		for range 2 {
			if !bytes.Equal(leader.read(0, leader.End()), follower.read(0, leader.End())) {
				t.Fatalf("seed %d: the bytes differ", seed)
			}
			if a, b := epochs(leader, last+1), epochs(follower, last+1); !slices.Equal(a, b) {
				t.Fatalf("seed %d: epochs end at %v, the leader's at %v", seed, b, a)
			}
			for ms := int64(0); ms <= leader.clock.ms; ms += 37 {
				a, foundA, errA := leader.OffsetForTime(t.Context(), ms, leader.End())
				b, foundB, errB := follower.OffsetForTime(t.Context(), ms, leader.End())
				if a != b || foundA != foundB || errA != nil || errB != nil {
					t.Fatalf("seed %d: time %d is at %d, %v, %v, in the leader's log at %d, %v, %v", seed, ms, b, foundB, errB, a, foundA, errA)
				}
			}
			follower.reopen()
		}
	}
}

func TestARangeOfManyCrumbsAndManyBatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	leader, follower := newReplica(t, 1<<20), newReplica(t, 60_000)
	leader.lead(3000, 1, rng)
	all := leader.read(0, leader.End())
	if err := follower.AppendFollowed(cut(all, rng, 1)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(all, follower.read(0, leader.End())) {
		t.Fatal("the bytes differ")
	}
	// A batch of more pieces than one write takes, between two others.
	big := storagetest.NewBatch("big", 1, storagetest.Sized(40_000))
	for _, b := range []*commitlog.Batch{storagetest.NewBatch("a", 1), big, storagetest.NewBatch("z", 1)} {
		if err := leader.Append([]*commitlog.Batch{b}, 1, 0); err != nil {
			t.Fatal(err)
		}
	}
	more := leader.read(follower.End(), leader.End())
	from := follower.End()
	if err := follower.AppendFollowed(cut(more, rng, 40)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(more, follower.read(from, leader.End())) {
		t.Fatal("the bytes differ")
	}
}

func TestABadRangeIsRefusedAsAWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	leader := newReplica(t, 1<<20)
	leader.lead(4, 1, rng)
	leader.lead(4, 2, rng)
	all := leader.read(0, leader.End())
	var starts []int
	for at := 0; at < len(all); {
		starts = append(starts, at)
		_, _, size, err := record.ParseLogBatch(all[at:])
		if err != nil {
			t.Fatal(err)
		}
		at += size
	}
	flipped := slices.Clone(all)
	flipped[starts[6]-3] ^= 1
	join := slices.Concat[[]byte]
	var epoch *commitlog.EpochError
	var corrupt *record.CorruptBatchError
	for name, c := range map[string]struct {
		b     []byte
		batch int // that is bad
		is    func(error) bool
	}{
		"ends in a batch":        {all[:len(all)-1], 7, func(e error) bool { return errors.Is(e, record.ErrShort) }},
		"ends in a header":       {all[:starts[5]+20], 5, func(e error) bool { return errors.Is(e, record.ErrShort) }},
		"a flipped bit":          {flipped, 5, func(e error) bool { return errors.As(e, &corrupt) }},
		"rubbish behind":         {join(all, []byte("rubbish")), 8, func(e error) bool { return errors.As(e, &corrupt) }},
		"a gap":                  {join(all[:starts[3]], all[starts[4]:]), 3, func(e error) bool { return errors.Is(e, segment.ErrOffsetOrder) }},
		"begins elsewhere":       {all[starts[1]:], 0, func(e error) bool { return errors.Is(e, segment.ErrOffsetOrder) }},
		"a batch twice":          {join(all[:starts[2]], all[starts[1]:]), 2, func(e error) bool { return errors.Is(e, segment.ErrOffsetOrder) }},
		"an epoch that is older": {older(t, all, starts[6]), 6, func(e error) bool { return errors.As(e, &epoch) && epoch.Last == 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			follower := newReplica(t, 600)
			err := follower.AppendFollowed(cut(c.b, rng, 50))
			var bad *commitlog.RangeError
			if !errors.As(err, &bad) || !c.is(err) {
				t.Fatalf("error is %v", err)
			}
			if want := append(starts, len(all))[c.batch]; bad.Position != want {
				t.Errorf("bad batch is at %d, not %d", bad.Position, want)
			}
			if follower.End() != 0 || follower.Size() != 0 {
				t.Errorf("written up to %d, %d bytes", follower.End(), follower.Size())
			}
			if err := follower.AppendFollowed(record.Pieces{all}); err != nil || follower.End() != leader.End() {
				t.Errorf("the good range: end %d, %v", follower.End(), err)
			}
		})
	}
}

// older returns b with the batch at a position made one of epoch 1.
func older(t *testing.T, b []byte, at int) []byte {
	t.Helper()
	h, batch, size, err := record.ParseLogBatch(b[at:])
	if err != nil {
		t.Fatal(err)
	}
	h.LeaderEpoch = 1
	out := record.AppendLogBatchHeader(slices.Clone(b[:at]), &h, len(batch), record.Pieces{batch}.CRC())
	return append(append(out, batch...), b[at+size:]...)
}

func TestAFollowerTruncatesAnywhereAndGoesOn(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		leader, follower := newReplica(t, 900), newReplica(t, 700)
		leader.lead(20, 1, rng)
		leader.lead(20, 2, rng)
		all := leader.read(0, leader.End())
		if err := follower.AppendFollowed(cut(all, rng, 500)); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := follower.Sync(); err != nil {
				t.Fatal(err)
			}
			off := record.Offset(rng.Int64N(int64(follower.End()) + 1))
			end, err := follower.TruncateTo(off)
			if err != nil || end > off || end < off-3 {
				t.Fatalf("seed %d: truncated to %d, not %d: %v", seed, end, off, err)
			}
			if follower.SyncedEnd() != end || follower.End() != end {
				t.Fatalf("synced end is %d, end %d after the truncation to %d", follower.SyncedEnd(), follower.End(), end)
			}
			// What the disk says of it, whenever the process ends.
			o := options(follower.fs.Clone(), &clock{}, 1)
			if l, r, err := commitlog.Open(o); err != nil || r.Damaged != nil || r.DurableEnd > end || l.End() != end {
				t.Fatalf("seed %d: after the truncation to %d: %+v, %v", seed, end, r, err)
			}
			if rng.IntN(2) == 0 {
				follower.reopen()
			}
			if err := follower.AppendFollowed(cut(leader.read(end, leader.End()), rng, 500)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(all, follower.read(0, leader.End())) {
				t.Fatalf("seed %d: the bytes differ", seed)
			}
			if a, b := epochs(leader, 3), epochs(follower, 3); !slices.Equal(a, b) {
				t.Fatalf("seed %d: epochs end at %v, the leader's at %v", seed, b, a)
			}
		}
	}
}

func TestABatchOfAnotherLayoutIsKeptAsItIs(t *testing.T) {
	b := storagetest.NewBatch("v", 3)
	h := record.Header{Records: 3, LastOffsetDelta: 2, LeaderEpoch: 7, AppendTimeMs: 5, MaxTimestampMs: 5}
	first := otherLayout(&h, b.Pieces[0])
	h.BaseOffset = 3
	all := slices.Concat(first, otherLayout(&h, b.Pieces[0]))
	rng := rand.New(rand.NewPCG(1, 1))
	for longest := range 40 {
		r := newReplica(t, 100)
		if err := r.AppendFollowed(cut(all, rng, longest+1)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.read(0, 6), all) || r.LastEpoch() != 7 || r.Segments() != 2 {
			t.Fatalf("epoch %d, %d segments", r.LastEpoch(), r.Segments())
		}
	}
}
