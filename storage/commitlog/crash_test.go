package commitlog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

var (
	cluster = [16]byte{'c'}
	topic   = record.TopicID{'t'}
)

// clock is set by the test; it stands still otherwise.
type clock struct{ ms int64 }

func (c *clock) now() time.Time { return time.UnixMilli(c.ms) }

func options(fsys vfs.FS, c *clock, boot byte) commitlog.Options {
	return commitlog.Options{
		FS: fsys, Dir: "/data/p", ClusterID: cluster, TopicID: topic, Partition: 3,
		Config: commitlog.Config{SegmentBytes: 900}, BootID: [16]byte{boot}, Now: c.now,
	}
}

// expected is what must hold of a disk, if it dies now.
type expected struct {
	// before and after are the log before and after what is under way.
	before, after *storagetest.Model
	// synced: below it all was acknowledged as on the disk. written: below it
	// all was acknowledged.
	synced, written record.Offset
	// reset: what is under way turns before into after, which is empty, by way
	// of the first segments of before.
	reset bool
}

// most is the model that has all that may be there; start how far the log
// start may be.
func (e *expected) most() *storagetest.Model {
	if e.after.End() > e.before.End() && !e.reset {
		return e.after
	}
	return e.before
}

// user appends, syncs, truncates and so on, as a partition does, and knows
// what it may expect.
type user struct {
	t     *testing.T
	fs    *memfs.FS
	clock clock
	log   *commitlog.Log
	rng   *rand.Rand
	disk  bool // durability: sync before each acknowledgement
	epoch record.LeaderEpoch
	now   expected
	high  record.Offset // high watermark
	count int
}

func newUser(t *testing.T, seed uint64, disk bool) *user {
	u := &user{
		t: t, fs: memfs.New(), clock: clock{ms: 1_000_000}, disk: disk, epoch: 1,
		rng: rand.New(rand.NewPCG(seed, 7)),
	}
	m := &storagetest.Model{}
	u.now = expected{before: m, after: m}
	if err := errors.Join(u.fs.MkdirAll("/data", 0o755), u.fs.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *user) open() {
	u.t.Helper()
	l, _, err := commitlog.Open(options(u.fs, &u.clock, 1))
	if err != nil {
		u.t.Fatal(err)
	}
	u.log = l
}

// do runs something that turns one model into another.
func (u *user) do(change func(*storagetest.Model), call func() error) {
	u.t.Helper()
	after := u.now.before.Clone()
	change(after)
	u.now.after = after
	u.now.synced, u.now.written = min(u.now.synced, after.End()), min(u.now.written, after.End())
	if err := call(); err != nil {
		u.t.Fatal(err)
	}
	u.now.before = after
}

func (u *user) append() {
	u.t.Helper()
	u.clock.ms += int64(u.rng.IntN(50))
	var batches []*commitlog.Batch
	for range 1 + u.rng.IntN(3) {
		u.count++
		b := storagetest.NewBatch("v"+strconv.Itoa(u.count), 1+u.rng.IntN(4), storagetest.Sized(u.rng.IntN(200)))
		batches = append(batches, b)
	}
	u.do(func(m *storagetest.Model) {
		for _, b := range batches {
			b.Appended, b.AppendTimeMs = true, u.clock.ms
		}
		m.Append(u.epoch, batches...)
	}, func() error { return u.log.Append(batches, u.epoch, u.high) })
	if u.disk || u.rng.IntN(10) == 0 {
		u.sync()
	}
	u.acknowledge()
}

func (u *user) sync() {
	u.t.Helper()
	if _, err := u.log.Sync(); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) acknowledge() {
	u.t.Helper()
	if err := u.log.StoreCheckpoint(); err != nil {
		u.t.Fatal(err)
	}
	u.now.synced = max(u.now.synced, u.log.SyncedEnd())
	u.now.written = u.log.End()
	u.high = u.log.End()
	if u.disk {
		u.high = u.log.SyncedEnd()
	}
}

func (u *user) truncate() {
	u.t.Helper()
	m := u.now.before
	if len(m.Entries) < 2 {
		return
	}
	off := m.Entries[len(m.Entries)-1-u.rng.IntN(min(len(m.Entries)-1, 6))].Base
	if off < m.Start {
		return
	}
	// What a high watermark covers is not truncated: so it was lower.
	u.high = min(u.high, off)
	u.do(func(m *storagetest.Model) { m.TruncateTo(off) }, func() error {
		end, err := u.log.TruncateTo(off)
		if end != off {
			u.t.Errorf("truncated to %d, not %d", end, off)
		}
		return err
	})
	u.epoch++
}

// follow appends a range that another leader wrote, of one epoch or two.
func (u *user) follow() {
	u.t.Helper()
	var (
		batches []*commitlog.Batch
		bytes   []byte
	)
	next := u.log.End()
	u.do(func(m *storagetest.Model) {
		for range 1 + u.rng.IntN(4) {
			if u.rng.IntN(4) == 0 {
				u.epoch++
			}
			u.clock.ms += int64(u.rng.IntN(50))
			u.count++
			b := storagetest.NewBatch("f"+strconv.Itoa(u.count), 1+u.rng.IntN(4), storagetest.Sized(u.rng.IntN(200)))
			b.Appended, b.AppendTimeMs = true, u.clock.ms
			h := record.Header{
				BaseOffset: next, Records: b.Summary.Records, LastOffsetDelta: b.Summary.Records - 1, LeaderEpoch: u.epoch,
				AppendTimeMs: u.clock.ms, MaxTimestampMs: u.clock.ms, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
				CommittedEnd: min(u.high, next),
			}
			next = h.End()
			bytes = b.Pieces.AppendTo(record.AppendLogBatchHeader(bytes, &h, b.Summary.Bytes, b.Summary.CRC))
			batches = append(batches, b)
			m.Append(u.epoch, b)
		}
	}, func() error { return u.log.AppendFollowed(cut(bytes, u.rng, 200)) })
	if u.disk || u.rng.IntN(10) == 0 {
		u.sync()
	}
	u.acknowledge()
}

// reset begins the log again somewhere near.
func (u *user) reset() {
	u.t.Helper()
	at := max(0, u.log.Start()+record.Offset(u.rng.Int64N(2*int64(u.log.End()-u.log.Start())+9))-4)
	u.now.after, u.now.reset = &storagetest.Model{Start: at, Origin: at}, true
	u.now.synced, u.now.written = 0, 0
	if err := u.log.ResetTo(at); err != nil {
		u.t.Fatal(err)
	}
	u.now = expected{before: u.now.after, after: u.now.after, synced: at, written: at}
	u.high = at
}

func (u *user) deleteBefore() {
	u.t.Helper()
	m := u.now.before
	off := m.Start + record.Offset(u.rng.Int64N(int64(m.End()-m.Start)+1))
	u.do(func(m *storagetest.Model) { m.StartAt(off) }, func() error {
		_, err := u.log.DeleteBefore(off)
		u.log.RemoveWaste()
		return err
	})
}

func (u *user) retain() {
	u.t.Helper()
	c := u.log.Config()
	c.RetentionBytes = 2500
	u.log.SetConfig(c)
	u.now.after = u.now.before.Clone()
	u.now.after.StartAt(u.log.End())
	if _, err := u.log.Retain(u.clock.now(), u.log.End()); err != nil {
		u.t.Fatal(err)
	}
	u.log.RemoveWaste()
	u.now.after = u.now.before.Clone()
	u.now.after.StartAt(u.log.Start())
	u.now.before = u.now.after
}

func (u *user) step() {
	u.t.Helper()
	switch n := u.rng.IntN(48); {
	case n < 28:
		u.append()
	case n < 30:
		u.truncate()
	case n < 31:
		u.deleteBefore()
	case n < 32:
		u.retain()
	case n < 34:
		u.sync()
		u.log.Idle()
	case n < 36:
		if err := u.log.SyncCheckpoint(); err != nil {
			u.t.Fatal(err)
		}
	case n < 38:
		u.epoch++
	case n < 44:
		u.follow()
	case n < 45:
		u.reset()
	default:
		if err := u.log.Close(); err != nil {
			u.t.Fatal(err)
		}
		u.now.synced = u.log.SyncedEnd()
		u.open()
	}
}

// crashSeeds returns how many seeds to test. All moments of many seeds take
// minutes: CRASH_SEEDS=50 go test ./storage/commitlog.
func crashSeeds(usual uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("CRASH_SEEDS"), 10, 16); err == nil {
		return n
	}
	return usual
}

// allMoments tells whether every moment is looked at in full.
func allMoments() bool { return os.Getenv("CRASH_SEEDS") != "" }

// TestNothingAcknowledgedIsLost kills the machine after every operation on the
// disk, in many ways, and looks for what was acknowledged.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	every := 5
	if allMoments() {
		every = 1
	}
	for seed := range crashSeeds(2) {
		for _, disk := range []bool{true, false} {
			t.Run(fmt.Sprintf("seed=%d,disk=%v", seed, disk), func(t *testing.T) {
				t.Parallel()
				u := newUser(t, seed, disk)
				u.open()
				moments := storagetest.Record(u.fs, every, func() expected { return u.now })
				for range 60 {
					u.step()
				}
				for i := range moments.Moments {
					m := &moments.Moments[i]
					checkMoment(t, u, m, seed+uint64(i))
				}
			})
		}
	}
}

func checkMoment(t *testing.T, u *user, m *storagetest.Moment[expected], seed uint64) {
	t.Helper()
	for _, p := range storagetest.Policies(seed) {
		if err := afterPowerLoss(m.Disk.Crash(p), u, &m.Expected); err != nil {
			t.Fatalf("%v, %v: %v", m, p, err)
		}
	}
	if err := afterKill(m.Disk.Clone(), u, &m.Expected); err != nil {
		t.Fatalf("%v, killed: %v", m, err)
	}
	if m.Op.Kind != memfs.Write || path.Ext(m.Op.Name) != segment.LogSuffix || m.Op.Offset == 0 {
		return
	}
	killed := m.Disk.Clone()
	if err := storagetest.Shorten(killed, m.Op.Name, m.Op.Offset+int64(seed)%m.Op.Bytes); err != nil {
		t.Fatal(err)
	}
	if err := afterKill(killed, u, &m.Expected); err != nil {
		t.Fatalf("%v, killed while writing: %v", m, err)
	}
}

// afterPowerLoss opens a log on what a power loss left.
func afterPowerLoss(disk *memfs.FS, u *user, e *expected) error {
	l, r, err := commitlog.Open(options(disk, &clock{ms: u.clock.ms}, 2))
	if err != nil {
		return err
	}
	if r.Damaged != nil {
		// An unsynced batch was lost, and a later one, which is there, says
		// that it was acknowledged: in memory only. Rule S2 has it so.
		if u.disk {
			return fmt.Errorf("damaged: %w", r.Damaged)
		}
		if r.Damaged.Offset < e.synced {
			return fmt.Errorf("damaged below what was synced (%d): %w", e.synced, r.Damaged)
		}
		return e.most().CheckUntil(l, r.Damaged.Offset)
	}
	return goOn(disk, l, u, e, e.synced)
}

// afterKill opens a log on what the end of the process left.
func afterKill(disk *memfs.FS, u *user, e *expected) error {
	l, r, err := commitlog.Open(options(disk, &clock{ms: u.clock.ms}, 1))
	if err != nil {
		return err
	}
	if r.Damaged != nil {
		return fmt.Errorf("damaged: %w", r.Damaged)
	}
	if e.written > 0 && (!r.SameBoot || r.DurableEnd < e.written) {
		return fmt.Errorf("in the same boot all that was acknowledged (%d) is durable: %+v", e.written, r)
	}
	return goOn(disk, l, u, e, e.written)
}

// goOn checks a recovered log, and that it can be used.
func goOn(disk *memfs.FS, l *commitlog.Log, u *user, e *expected, least record.Offset) error {
	m := e.most().Clone()
	if s := l.Start(); e.reset && s == l.End() && (s == e.before.Start || s == e.after.Start) {
		m = &storagetest.Model{Start: s, Origin: s}
	}
	if err := m.Check(l, least); err != nil {
		return err
	}
	if s := l.Start(); e.reset && s == m.Start {
		// The log of before or the empty one, and not the one that begins as the other.
	} else if s < e.before.Start || (s > e.after.Start && s > e.before.Start) {
		return fmt.Errorf("log start is %d, not within [%d, %d]", s, e.before.Start, e.after.Start)
	}
	if l.SyncedEnd() != l.End() {
		return fmt.Errorf("synced end is %d after recovery, end %d", l.SyncedEnd(), l.End())
	}
	m.TruncateTo(l.End())
	m.StartAt(l.Start())
	more := storagetest.NewBatch("more", 2)
	if err := l.Append([]*commitlog.Batch{more}, u.epoch+1, l.End()); err != nil {
		return err
	}
	m.Append(u.epoch+1, more)
	searched := 16
	if allMoments() {
		searched = 1
	}
	if err := m.CheckSomeSearch(l, searched); err != nil {
		return err
	}
	if err := againAfterPowerLoss(disk, l, u, m); err != nil {
		return fmt.Errorf("power loss after the recovery: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	again, r, err := commitlog.Open(options(disk, &clock{ms: u.clock.ms}, 3))
	if err != nil {
		return fmt.Errorf("second start: %w", err)
	}
	if r.Damaged != nil || r.TailCut || r.Scanned != 0 {
		return fmt.Errorf("second start after a clean stop: %+v", r)
	}
	if err := m.CheckSomeSearch(again, searched); err != nil {
		return fmt.Errorf("second start: %w", err)
	}
	if err := again.Close(); err != nil {
		return err
	}
	if n := disk.OpenFiles(); n != 0 {
		return fmt.Errorf("%d files are open after Close", n)
	}
	return nil
}

// againAfterPowerLoss checks that what a recovered log calls synced survives.
func againAfterPowerLoss(disk *memfs.FS, l *commitlog.Log, u *user, m *storagetest.Model) error {
	synced, err := l.Sync()
	if err != nil {
		return err
	}
	again, r, err := commitlog.Open(options(disk.Crash(memfs.LoseUnsynced()), &clock{ms: u.clock.ms}, 4))
	if err != nil {
		return err
	}
	if r.Damaged != nil {
		return r.Damaged
	}
	return m.Check(again, synced)
}
