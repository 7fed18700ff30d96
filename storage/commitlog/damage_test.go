package commitlog_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// filled returns a disk with a log of some segments and epochs. Its log start
// is within the second segment of those that were written.
func filled(t *testing.T) *user {
	t.Helper()
	u := newUser(t, 3, true)
	u.open()
	for u.log.Segments() < 5 {
		u.append()
		if u.rng.IntN(4) == 0 {
			u.epoch++
		}
	}
	u.do(func(m *storagetest.Model) { m.StartAt(9) }, func() error {
		_, err := u.log.DeleteBefore(9)
		u.log.RemoveWaste()
		return err
	})
	for range 2 {
		u.append()
	}
	if err := u.now.before.CheckSearch(u.log); err != nil {
		t.Fatal(err)
	}
	return u
}

// typed says whether err is one of those that callers know.
func typed(err error) bool {
	var (
		corrupt  *segment.CorruptError
		mismatch *segment.MismatchError
		version  *record.UnsupportedVersionError
	)
	return errors.As(err, &corrupt) || errors.As(err, &mismatch) || errors.As(err, &version)
}

// probe reads a log batch by batch, and searches it. Each answer must be right
// or a typed error; bad counts the errors. All other outcomes are failures.
func probe(m *storagetest.Model, l *commitlog.Log) (bad int, err error) {
	if l.End() < m.End() || l.Start() > m.Start {
		return 0, fmt.Errorf("log is [%d, %d), was [%d, %d)", l.Start(), l.End(), m.Start, m.End())
	}
	for _, e := range m.Entries {
		from := max(e.Base, m.Start)
		r := l.NewReader()
		g, err := r.Read(from, m.End(), 1, func(n int) []byte { return make([]byte, n) })
		switch {
		case err != nil && typed(err):
			bad++
		case err != nil:
			return bad, fmt.Errorf("read at %d: %w", from, err)
		case g.First != e.Base || g.Next != e.End:
			return bad, fmt.Errorf("read at %d: got [%d, %d)", from, g.First, g.Next)
		default:
			if err := m.CheckRange(g); err != nil {
				return bad, err
			}
		}
		off, found, err := l.OffsetForTime(context.Background(), e.MaxMs, m.End())
		want, wanted, _ := m.OffsetForTime(e.MaxMs)
		switch {
		case err != nil && typed(err):
			bad++
		case err != nil || off != want || found != wanted:
			return bad, fmt.Errorf("offset for time %d is %d, %v (%w), not %d", e.MaxMs, off, found, err, want)
		}
		if epoch := l.EpochAt(from); epoch != e.Epoch {
			return bad, fmt.Errorf("epoch at %d is %d, not %d", from, epoch, e.Epoch)
		}
	}
	return bad, nil
}

// TestBitFlips flips a bit of each byte of each file of a log whose bytes were
// all durable. Never may a record change or be missing without an error, and
// never may the log become shorter.
func TestBitFlips(t *testing.T) {
	for _, stop := range []string{"clean", "kill", "power loss"} {
		t.Run(stop, func(t *testing.T) {
			t.Parallel()
			u := filled(t)
			disk, boot := u.fs.Clone(), byte(1)
			switch stop {
			case "clean":
				if err := u.log.Close(); err != nil {
					t.Fatal(err)
				}
				disk, boot = u.fs.Clone(), 2
			case "power loss":
				// The checkpoint was not synced, but here it survives.
				disk, boot = u.fs.Crash(memfs.KeepUnsynced()), 2
			}
			files, err := storagetest.Files(disk, "/data/p")
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for _, f := range files {
				hit := false
				b, err := storagetest.ReadFile(disk, f.Path)
				if err != nil {
					t.Fatal(err)
				}
				for _, at := range worthFlipping(f.Path, b) {
					flipped := disk.Clone()
					if err := storagetest.Flip(flipped, f.Path, at, rng.IntN(8)); err != nil {
						t.Fatal(err)
					}
					bad, err := probeFlipped(flipped, u, boot)
					if err != nil {
						t.Fatalf("flip at %d of %s: %v", at, path.Base(f.Path), err)
					}
					hit = hit || bad > 0
				}
				// A cache that is damaged is made again; a log is not.
				if isLog := strings.HasSuffix(f.Path, segment.LogSuffix); hit != isLog {
					t.Errorf("%s: flips were errors: %v", path.Base(f.Path), hit)
				}
			}
		})
	}
}

// worthFlipping returns the positions to try: all of the log that is written to
// and of the small files, and some of the others, which are all alike. Long
// runs of zeros are not used.
func worthFlipping(name string, b []byte) []int64 {
	step := int64(1)
	if base, suffix, ok := segment.ParseName(path.Base(name)); ok && suffix != segment.PartialSuffix && base < 34 {
		step = 11
	}
	var out []int64
	for at := int64(0); at < int64(len(b)); at += step {
		if b[at] != 0 || at < 512 {
			out = append(out, at)
		}
	}
	return out
}

func probeFlipped(disk *memfs.FS, u *user, boot byte) (bad int, err error) {
	l, r, err := commitlog.Open(options(disk, &clock{ms: u.clock.ms}, boot))
	if err != nil {
		if typed(err) {
			return 1, nil
		}
		return 0, err
	}
	defer l.Close() //nolint:errcheck // Nothing was appended.
	if r.TailCut {
		return 0, fmt.Errorf("cut at %d: %w", r.CutPosition, r.CutCause)
	}
	bad, err = probe(u.now.before, l)
	if err != nil {
		return bad, err
	}
	more := storagetest.NewBatch("more", 1)
	err = l.Append([]*commitlog.Batch{more}, u.epoch, l.End())
	switch {
	case r.Damaged == nil && err != nil && (bad == 0 || !typed(err)):
		return bad, fmt.Errorf("append: %w", err)
	case r.Damaged != nil && (bad == 0 || err == nil || more.Appended):
		return bad, fmt.Errorf("damaged log: %d errors, append says %w: %w", bad, err, r.Damaged)
	}
	return bad, nil
}

// TestTornTail cuts the last segment at every byte, and makes the rest of the
// last write zero or garbage from every byte on.
func TestTornTail(t *testing.T) {
	u := newUser(t, 1, false)
	u.open()
	u.log.SetConfig(commitlog.Config{})
	for range 3 {
		u.append()
	}
	u.sync()
	u.acknowledge()
	u.log.SyncCheckpoint() //nolint:errcheck // Its loss would show.
	synced := u.now.synced
	u.high = 0 // Nobody acknowledges what follows.
	ends := map[int64]record.Offset{}
	note := func() { ends[fileSize(t, u.fs, u.log)] = u.log.End() }
	note()
	for range 4 {
		b := storagetest.NewBatch("tail", 2, storagetest.Sized(20))
		if err := u.log.Append([]*commitlog.Batch{b}, u.epoch, 0); err != nil {
			t.Fatal(err)
		}
		u.now.before.Append(u.epoch, b)
		note()
	}
	name := lastLog(u.log)
	whole := fileSize(t, u.fs, u.log)
	for size := range whole + 1 {
		want := record.Offset(0)
		for s, end := range ends {
			if s <= size {
				want = max(want, end)
			}
		}
		for _, fill := range []string{"cut", "zero", "noise"} {
			disk := u.fs.Clone()
			if err := tear(disk, name, size, whole, fill); err != nil {
				t.Fatal(err)
			}
			checkTorn(t, disk, u, fmt.Sprintf("%s from %d on", fill, size), synced, want)
		}
	}
}

func checkTorn(t *testing.T, disk *memfs.FS, u *user, what string, synced, want record.Offset) {
	t.Helper()
	l, r, err := commitlog.Open(options(disk, &clock{ms: u.clock.ms}, 2))
	var version *record.UnsupportedVersionError
	if want < synced && errors.As(err, &version) {
		return // Noise where the version stands.
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer l.Close() //nolint:errcheck // Nothing was appended.
	if want < synced {
		// The bytes below the durable point are not looked at until they are
		// read.
		err := u.now.before.CheckUntil(l, synced)
		if l.End() < synced || !typed(err) || (r.TailCut && r.Damaged != nil) {
			t.Fatalf("%s: bytes below the durable point %d are gone: %v, %+v", what, synced, err, r)
		}
		return
	}
	if r.Damaged != nil || l.End() != want {
		t.Fatalf("%s: end is %d, not %d: %+v", what, l.End(), want, r)
	}
	if err := u.now.before.Check(l, want); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func tear(disk *memfs.FS, name string, from, to int64, fill string) error {
	if err := storagetest.Shorten(disk, name, from); err != nil || fill == "cut" || from == to {
		return err
	}
	junk := make([]byte, to-from)
	if fill == "noise" {
		rng := rand.New(rand.NewPCG(uint64(from), 5))
		for i := range junk {
			junk[i] = byte(rng.Uint32())
		}
	}
	return storagetest.Overwrite(disk, name, junk, from)
}

func lastLog(l *commitlog.Log) string {
	return path.Join("/data/p", segment.Name(l.LastBase(), segment.LogSuffix))
}

func fileSize(t *testing.T, fsys vfs.FS, l *commitlog.Log) int64 {
	t.Helper()
	st, err := fsys.Stat(lastLog(l))
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestAcknowledgedBehindABadBatch: a valid batch behind the bad one says that
// the bad one was acknowledged, so it is no torn tail.
func TestAcknowledgedBehindABadBatch(t *testing.T) {
	for _, c := range []struct {
		name      string
		committed record.Offset
		damaged   bool
	}{
		{"nothing was committed", 0, false},
		{"all below the bad batch was committed", 2, false},
		{"the bad batch was committed", 4, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := memfs.New()
			o := options(fsys, &clock{ms: 5}, 1)
			l, _, err := commitlog.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			second := int64(0)
			for i := range 3 {
				if i == 1 {
					second = fileSize(t, fsys, l)
				}
				b := storagetest.NewBatch("b", 2)
				if err := l.Append([]*commitlog.Batch{b}, 1, min(c.committed, l.End())); err != nil {
					t.Fatal(err)
				}
			}
			name := lastLog(l)
			for _, flip := range []int64{0, 1, 5, 30, 100, 113} {
				disk := fsys.Clone()
				if err := disk.Remove("/data/p/checkpoint"); err == nil {
					t.Fatal("no checkpoint was stored, but there is one")
				}
				if err := storagetest.Flip(disk, name, second+flip, 0); err != nil {
					t.Fatal(err)
				}
				_, r, err := commitlog.Open(options(disk, &clock{ms: 5}, 2))
				if err != nil {
					t.Fatal(err)
				}
				if damaged := r.Damaged != nil; damaged != c.damaged || r.TailCut == c.damaged {
					t.Errorf("flip of byte %d of the second batch: %+v", flip, r)
				}
				if c.damaged && r.End != 4 || !c.damaged && r.End != 2 {
					t.Errorf("flip of byte %d of the second batch: end is %d", flip, r.End)
				}
			}
		})
	}
}

// TestOldBytesBehindATornTail: a batch with a good checksum that cannot stand
// where it stands is not valid (rule F5).
func TestOldBytesBehindATornTail(t *testing.T) {
	for name, h := range map[string]record.Header{
		"older epoch":     {BaseOffset: 2, Records: 1, LeaderEpoch: 4},
		"offset repeated": {BaseOffset: 1, Records: 1, LeaderEpoch: 5},
		"offset skipped":  {BaseOffset: 3, Records: 1, LeaderEpoch: 5},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := memfs.New()
			l, _, err := commitlog.Open(options(fsys, &clock{ms: 5}, 1))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Append([]*commitlog.Batch{storagetest.NewBatch("b", 2)}, 5, 0); err != nil {
				t.Fatal(err)
			}
			old := storagetest.NewBatch("old", 1)
			b := record.AppendLogBatchHeader(nil, &h, old.Summary.Bytes, old.Summary.CRC)
			b = old.Pieces.AppendTo(b)
			if err := storagetest.Overwrite(fsys, lastLog(l), b, fileSize(t, fsys, l)); err != nil {
				t.Fatal(err)
			}
			_, r, err := commitlog.Open(options(fsys.Clone(), &clock{ms: 5}, 2))
			if err != nil {
				t.Fatal(err)
			}
			if !r.TailCut || r.End != 2 || r.CutBytes != int64(len(b)) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestFileOfAnotherLog: a file in the wrong directory passes every checksum.
func TestFileOfAnotherLog(t *testing.T) {
	for _, field := range []string{"cluster_id", "topic_id", "partition", "base_offset"} {
		t.Run(field, func(t *testing.T) {
			u := filled(t)
			if err := u.log.Close(); err != nil {
				t.Fatal(err)
			}
			o := options(u.fs, &u.clock, 1)
			files, err := storagetest.Files(u.fs, o.Dir)
			if err != nil {
				t.Fatal(err)
			}
			var logs []string
			for _, f := range files {
				if strings.HasSuffix(f.Path, segment.LogSuffix) {
					logs = append(logs, f.Path)
				}
			}
			switch field {
			case "cluster_id":
				o.ClusterID[0]++
			case "topic_id":
				o.TopicID[0]++
			case "partition":
				o.Partition++
			case "base_offset":
				last := logs[len(logs)-1]
				b, err := storagetest.ReadFile(u.fs, logs[0])
				if err != nil {
					t.Fatal(err)
				}
				if err := storagetest.WriteFile(u.fs, last, b); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err = commitlog.Open(o)
			var mismatch *segment.MismatchError
			if !errors.As(err, &mismatch) || mismatch.Field != field {
				t.Errorf("open: %v", err)
			}
		})
	}
}

// TestLaterFormatIsNotDamage: a segment of a format that this program does not
// know has its own error, whether it is the last one or not.
func TestLaterFormatIsNotDamage(t *testing.T) {
	for _, which := range []string{"first", "last"} {
		t.Run(which, func(t *testing.T) {
			u := filled(t)
			if err := u.log.Close(); err != nil {
				t.Fatal(err)
			}
			name := path.Join("/data/p", segment.Name(u.log.FirstBase(), segment.LogSuffix))
			if which == "last" {
				name = lastLog(u.log)
			}
			b, err := storagetest.ReadFile(u.fs, name)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.IndexByte(b, 1<<3|5) // Tag of format_version.
			binary.LittleEndian.PutUint32(b[at+1:], 7)
			if err := storagetest.WriteFile(u.fs, name, b); err != nil {
				t.Fatal(err)
			}
			l, _, err := commitlog.Open(options(u.fs, &u.clock, 2))
			if which == "first" && err == nil {
				_, err = l.NewReader().Read(l.Start(), l.End(), 1, func(n int) []byte { return make([]byte, n) })
			}
			var version *record.UnsupportedVersionError
			if !errors.As(err, &version) || version.Got != 7 {
				t.Errorf("got %v", err)
			}
			var corrupt *segment.CorruptError
			if errors.As(err, &corrupt) {
				t.Errorf("it is called damage: %v", err)
			}
		})
	}
}

// TestFilesMissing removes files one at a time. What can be made again is, and
// what cannot is missed.
func TestFilesMissing(t *testing.T) {
	u := filled(t)
	if err := u.log.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := storagetest.Files(u.fs, "/data/p")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Run(path.Base(f.Path), func(t *testing.T) {
			disk := u.fs.Clone()
			if err := disk.Remove(f.Path); err != nil {
				t.Fatal(err)
			}
			l, r, err := commitlog.Open(options(disk, &clock{ms: u.clock.ms}, 2))
			if err != nil {
				t.Fatal(err)
			}
			if r.NoCheckpoint != strings.HasSuffix(f.Path, "checkpoint") {
				t.Errorf("no checkpoint: %v", r.NoCheckpoint)
			}
			if r.NoCheckpoint {
				// Where the log starts is said there alone. Whole segments
				// below it are gone; the rest is there again.
				if err := u.now.before.Check(l, u.now.before.End()); err != nil {
					t.Error(err)
				}
				return
			}
			bad, err := probe(u.now.before, l)
			if err != nil {
				t.Fatal(err)
			}
			if isLog := strings.HasSuffix(f.Path, segment.LogSuffix); isLog != (bad > 0) {
				t.Errorf("%d errors; %+v", bad, r)
			}
			if r.TailCut {
				t.Errorf("cut: %+v", r)
			}
		})
	}
}
