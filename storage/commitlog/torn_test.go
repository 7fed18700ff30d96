package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// mostTorn is how much of the end of a file a power loss spoils here.
const mostTorn = 64 << 10

// tornCases returns how many disks to spoil. More of them:
// TORN_CASES=5000 go test ./storage/commitlog -run TestSpoiltEnds.
func tornCases() int {
	if n, err := strconv.Atoi(os.Getenv("TORN_CASES")); err == nil {
		return n
	}
	return 150
}

// tail is a log of some sealed segments and one that is written to, and how far
// the last is on the disk.
type tail struct {
	*user
	synced   record.Offset
	position int64 // of synced in the last segment
	ends     []struct {
		at  int64 // in the last segment
		end record.Offset
	}
}

// newTail draws a log: with small batches or large ones, much that is not synced
// or little, in few leader epochs or many.
func newTail(t *testing.T, seed uint64) *tail {
	t.Helper()
	l := &tail{user: newUser(t, seed, true)}
	l.open()
	l.log.SetConfig(commitlog.Config{SegmentBytes: 40 << 10})
	most := []int{40, 300, 3000, 20_000}[l.rng.IntN(4)]
	one := func() {
		l.count++
		b := storagetest.NewBatch("t"+strconv.Itoa(l.count), 1+l.rng.IntN(4), storagetest.Sized(l.rng.IntN(most)))
		b.Appended, b.AppendTimeMs = true, l.clock.ms
		l.do(func(m *storagetest.Model) { m.Append(l.epoch, b) }, func() error {
			return l.log.Append([]*commitlog.Batch{b}, l.epoch, l.high)
		})
		if l.rng.IntN(20) == 0 {
			l.epoch++
		}
	}
	for l.log.Segments() < 4 {
		one()
	}
	l.log.SetConfig(commitlog.Config{})
	for fileSize(t, l.fs, l.log) < mostTorn+8<<10 {
		one()
	}
	l.sync()
	l.acknowledge()
	if err := l.log.SyncCheckpoint(); err != nil {
		t.Fatal(err)
	}
	l.synced, l.position = l.log.SyncedEnd(), fileSize(t, l.fs, l.log)
	ahead := l.position + int64(l.rng.IntN(mostTorn+16<<10))
	for at := l.position; ; {
		l.ends = append(l.ends, struct {
			at  int64
			end record.Offset
		}{at, l.log.End()})
		if at >= ahead {
			return l
		}
		one()
		at = fileSize(t, l.fs, l.log)
	}
}

// spoil changes the end of what a file holds, in one of many ways.
func spoil(b []byte, rng *rand.Rand) (what string, after []byte) {
	n := 1 + rng.IntN(min(mostTorn, len(b)-int(segment.FirstPosition)))
	if rng.IntN(3) == 0 {
		n = 1 + rng.IntN(min(n, 1024))
	}
	from := len(b) - n
	noise := func(b []byte) {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
	}
	after = slices.Clone(b)
	end := after[from:]
	ways := []struct {
		name string
		do   func()
	}{
		{"cut", func() { after = after[:from] }},
		{"zero", func() { clear(end) }},
		{"noise", func() { noise(end) }},
		{"a bit", func() { end[rng.IntN(n)] ^= 1 << rng.IntN(8) }},
		{"sectors of noise", func() {
			for at := 0; at < n; at += 512 {
				if rng.IntN(3) == 0 {
					noise(end[at:min(at+512, n)])
				}
			}
		}},
		{"pages of zeros", func() {
			for at := 0; at < n; at += 4096 {
				if rng.IntN(2) == 0 {
					clear(end[at:min(at+4096, n)])
				}
			}
		}},
		{"older bytes", func() { copy(end, b[max(int(segment.FirstPosition), from-n):]) }},
		{"cut, and longer than before", func() {
			after = append(after[:from], make([]byte, n+rng.IntN(8192))...)
			if rng.IntN(2) == 0 {
				noise(after[from:])
			}
		}},
		{"more behind it", func() {
			more := make([]byte, n)
			if rng.IntN(2) == 0 {
				noise(more)
			}
			after = append(after, more...)
		}},
	}
	way := ways[rng.IntN(len(ways))]
	way.do()
	return fmt.Sprintf("%s from %d of %d", way.name, from, len(b)), after
}

// differs is where two files begin to differ.
func differs(a, b []byte) int64 {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return int64(min(len(a), len(b)))
}

// TestSpoiltEnds spoils the last 1 byte to 64 KiB of the segment that is written
// to, and of sealed ones. What is behind the last sync is cut at the first bad
// batch, and no earlier; what is below it, and what is sealed, is never cut nor
// changed, whatever it holds: that is damage.
func TestSpoiltEnds(t *testing.T) {
	const ofOne = 25 // cases of one log
	cases := tornCases()
	for first := 0; first < cases; first += ofOne {
		t.Run(strconv.Itoa(first), func(t *testing.T) {
			t.Parallel()
			l := newTail(t, uint64(first))
			for i := range min(ofOne, cases-first) {
				rng := rand.New(rand.NewPCG(uint64(first), uint64(i)))
				test := l.spoiltTail
				if i%5 == 4 {
					test = l.spoiltSealed
				}
				if err := test(rng); err != nil {
					t.Fatalf("case %d: %v", i, err)
				}
			}
		})
	}
}

// spoiltTail spoils the last segment.
func (l *tail) spoiltTail(rng *rand.Rand) error {
	name := lastLog(l.log)
	before, err := storagetest.ReadFile(l.fs, name)
	if err != nil {
		return err
	}
	what, after := spoil(before, rng)
	disk := l.fs.Clone()
	if err := rewrite(disk, name, after); err != nil {
		return err
	}
	if err := l.recovered(disk, before, after); err != nil {
		return fmt.Errorf("%s, synced to %d: %w", what, l.position, err)
	}
	return nil
}

func (l *tail) recovered(disk *memfs.FS, before, after []byte) error {
	log, r, err := commitlog.Open(options(disk, &clock{ms: l.clock.ms}, 2))
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // Its failure would show at the next start.
	name := lastLog(l.log)
	left, err := storagetest.ReadFile(disk, name)
	if err != nil {
		return err
	}
	if kept := min(int64(len(after)), l.position); !bytes.Equal(left[:min(kept, int64(len(left)))], after[:kept]) {
		return fmt.Errorf("recovery changed what was synced: %d bytes are left", len(left))
	}
	at := differs(before, after)
	if at < l.position {
		// Below the durable point nothing is looked at until it is read.
		err := l.now.before.CheckUntil(log, l.synced)
		if log.End() < l.synced || !typed(err) || r.TailCut && r.Damaged != nil {
			return fmt.Errorf("damage at %d: %w, %+v", at, err, r)
		}
		return nil
	}
	want := l.synced
	for _, e := range l.ends {
		if e.at <= at {
			want = e.end
		}
	}
	if r.Damaged != nil || log.End() != want || r.TailCut != (len(after) > len(left)) {
		return fmt.Errorf("good until %d: the end is %d, not %d; synced %d: %+v", at, log.End(), want, l.synced, r)
	}
	if err := l.now.before.Check(log, l.synced); err != nil {
		return err
	}
	more := storagetest.NewBatch("more", 1)
	if err := log.Append([]*commitlog.Batch{more}, l.epoch+1, 0); err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	again, r, err := commitlog.Open(options(disk, &clock{ms: l.clock.ms}, 3))
	if err != nil || r.TailCut || r.Damaged != nil || r.End != want+1 {
		return fmt.Errorf("second start: %w, %+v, want %d", err, r, want+1)
	}
	return again.Close()
}

// spoiltSealed spoils a sealed segment.
func (l *tail) spoiltSealed(rng *rand.Rand) error {
	files, err := storagetest.Files(l.fs, "/data/p")
	if err != nil {
		return err
	}
	var sealed []string
	for _, f := range files {
		if path.Ext(f.Path) == segment.LogSuffix && f.Path != lastLog(l.log) {
			sealed = append(sealed, f.Path)
		}
	}
	name := sealed[rng.IntN(len(sealed))]
	before, err := storagetest.ReadFile(l.fs, name)
	if err != nil {
		return err
	}
	what, after := spoil(before, rng)
	if bytes.Equal(before, after) {
		return nil
	}
	disk := l.fs.Clone()
	if err := rewrite(disk, name, after); err != nil {
		return err
	}
	log, r, err := commitlog.Open(options(disk, &clock{ms: l.clock.ms}, 2))
	if err != nil {
		return fmt.Errorf("%s of %s: %w", what, path.Base(name), err)
	}
	bad, err := probe(l.now.before, log)
	left, again := storagetest.ReadFile(disk, name)
	if err = errors.Join(err, again, log.Close()); err != nil || r.TailCut || !bytes.Equal(left, after) {
		return fmt.Errorf("%s of %s: %d errors, %d bytes of %d are left: %w, %+v", what, path.Base(name), bad, len(left), len(after), err, r)
	}
	if at := differs(before, after); bad == 0 && at < int64(len(before)) {
		return fmt.Errorf("%s of %s: nobody noticed", what, path.Base(name))
	}
	return nil
}

// rewrite makes a file hold b, and b alone.
func rewrite(disk *memfs.FS, name string, b []byte) error {
	return errors.Join(storagetest.WriteFile(disk, name, b), storagetest.Shorten(disk, name, int64(len(b))))
}
