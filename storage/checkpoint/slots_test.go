package checkpoint_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

const slotsPath = "/d/checkpoint"

func openSlots(t testing.TB, fsys vfs.FS) *checkpoint.Slots {
	t.Helper()
	s, err := checkpoint.OpenSlots(fsys, slotsPath)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func store(t testing.TB, s *checkpoint.Slots, n int) {
	t.Helper()
	if err := s.Store(number(n)); err != nil {
		t.Fatal(err)
	}
}

// number is a payload that says which it is, of a length that changes.
func number(n int) []byte {
	return fmt.Appendf(nil, "%06d %s", n, bytes.Repeat([]byte{byte('a' + n%26)}, 1+n*13%200))
}

// load opens what is on a disk and returns the number of its payload, or -1.
func load(t testing.TB, fsys vfs.FS) int {
	t.Helper()
	s, err := checkpoint.OpenSlots(fsys, slotsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	b, err := s.Load()
	if err != nil {
		if !errors.Is(err, checkpoint.ErrNotExist) && !errors.As(err, new(*checkpoint.CorruptError)) {
			t.Fatal(err)
		}
		return -1
	}
	var n int
	if _, err := fmt.Sscanf(string(b), "%06d", &n); err != nil || string(b) != string(number(n)) {
		t.Fatalf("payload %q is none that was stored", b)
	}
	return n
}

// newSlots returns a disk with an empty file of slots whose name is durable.
func newSlots(t testing.TB) (*memfs.FS, *checkpoint.Slots) {
	t.Helper()
	disk := newDisk(t)
	s := openSlots(t, disk)
	if err := disk.SyncDir("/d"); err != nil {
		t.Fatal(err)
	}
	return disk, s
}

func TestSlotsRememberTheLast(t *testing.T) {
	disk, s := newSlots(t)
	if _, err := s.Load(); !errors.Is(err, checkpoint.ErrNotExist) {
		t.Errorf("of an empty file: %v", err)
	}
	for n := range 20 {
		store(t, s, n)
		b, err := s.Load()
		if err != nil || string(b) != string(number(n)) {
			t.Fatalf("loaded %q, %v", b, err)
		}
		if got := load(t, disk.Clone()); got != n {
			t.Fatalf("a process that starts finds %d, want %d", got, n)
		}
		if n%5 == 4 { // As a partition that idles and comes back.
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openSlots(t, disk)
		}
	}
	if err := s.Store(nil); err != nil {
		t.Fatal(err)
	}
	if b, err := openSlots(t, disk.Clone()).Load(); err != nil || len(b) != 0 {
		t.Errorf("empty payload: %q, %v", b, err)
	}
}

func TestSlotsOnRealDisk(t *testing.T) {
	name := t.TempDir() + "/f"
	for n := range 10 {
		s, err := checkpoint.OpenSlots(vfs.OS(), name)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := s.Load(); n > 0 && (err != nil || string(b) != string(number(n-1))) {
			t.Errorf("loaded %q, %v", b, err)
		}
		store(t, s, n)
		if err := errors.Join(s.Sync(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoreIsOneWriteWithoutSync(t *testing.T) {
	disk, s := newSlots(t)
	disk.StartLog()
	for n := range 5 {
		store(t, s, n)
	}
	for _, op := range disk.TakeLog() {
		if op.Kind != memfs.Write {
			t.Errorf("operation %v", op)
		}
	}
}

// TestSlotTornAtEveryByte tears the last store after each of its bytes, before
// and after syncs: what was stored before it is found, or, torn after its last
// byte, itself.
func TestSlotTornAtEveryByte(t *testing.T) {
	disk, s := newSlots(t)
	for n := range 12 {
		store(t, s, n)
		for torn := range int64(250) {
			got := load(t, disk.Crash(memfs.TearLast(torn)))
			if whole := int(torn) >= 20+len(number(n)); whole && got != n || !whole && got != n-1 && got != n {
				t.Fatalf("store %d torn after %d bytes leaves %d", n, torn, got)
			}
		}
		if n%4 == 3 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPowerLossNeverGoesBehindTheSync is the promise of Sync over random
// histories with reopening, under all that a power loss can do; and that of
// Store for the end of a process.
func TestPowerLossNeverGoesBehindTheSync(t *testing.T) {
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 2))
		disk, s := newSlots(t)
		stored, synced := -1, -1
		for step := range 60 {
			switch rng.IntN(5) {
			case 0:
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
				synced = stored
			case 1:
				if synced != stored {
					break // What is found newest at opening counts as synced.
				}
				s = openSlots(t, disk)
			default:
				stored++
				store(t, s, stored)
			}
			if got := load(t, disk.Clone()); got != stored {
				t.Fatalf("seed %d: after a kill %d, want %d", seed, got, stored)
			}
			for crash := range uint64(8) {
				for _, p := range []memfs.Policy{
					memfs.KeepRandom(seed*1e6 + uint64(step)*1000 + crash), memfs.TearLast(int64(crash) * 29),
					memfs.LoseUnsynced(),
				} {
					if got := load(t, disk.Crash(p)); got < synced || got > stored {
						t.Fatalf("seed %d, %s: %d, want at least %d and at most %d", seed, p, got, synced, stored)
					}
				}
			}
		}
	}
}

// TestBothUnsyncedSlotsTorn is what two slots could not survive.
func TestBothUnsyncedSlotsTorn(t *testing.T) {
	disk, s := newSlots(t)
	store(t, s, 1)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	for n := 2; n < 20; n++ {
		store(t, s, n)
	}
	damaged := 0
	for slot := range checkpoint.SlotCount {
		c := disk.Clone()
		f, err := c.OpenFile(slotsPath, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for other := range checkpoint.SlotCount {
			if other != slot {
				if _, err := f.WriteAt([]byte("torn"), int64(other)*4096+30); err != nil {
					t.Fatal(err)
				}
				damaged++
			}
		}
		if got := load(t, c); got != 1 && got != 18 && got != 19 {
			t.Errorf("with slot %d alone: %d", slot, got)
		}
	}
	if damaged != 6 {
		t.Errorf("damaged %d slots", damaged)
	}
}

// TestStoreDuringSync forks the disk while a sync is under way and stores go
// on: what was synced before must stay until the sync is over.
func TestStoreDuringSync(t *testing.T) {
	disk := newDisk(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	hold := &faultfs.Rule{Op: faultfs.Sync, Skip: 1, Hold: func(faultfs.Op, string) {
		close(begun)
		<-goOn
	}}
	s := openSlots(t, faultfs.Wrap(disk, hold))
	if err := disk.SyncDir("/d"); err != nil {
		t.Fatal(err)
	}
	store(t, s, 1)
	store(t, s, 2)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	store(t, s, 3)
	var flusher sync.WaitGroup
	flusher.Go(func() {
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
	})
	<-begun
	for n := 4; n < 10; n++ {
		store(t, s, n)
		if got := load(t, disk.Clone()); got != n {
			t.Errorf("after a kill %d, want %d", got, n)
		}
		if got := load(t, disk.Crash(memfs.LoseUnsynced())); got != 2 {
			t.Errorf("after a power loss %d, want 2", got)
		}
	}
	close(goOn)
	flusher.Wait()
	for n := 10; n < 20; n++ {
		store(t, s, n)
		if got := load(t, disk.Crash(memfs.TearLast(3))); got < 3 {
			t.Errorf("after a power loss %d, want at least 3", got)
		}
	}
}

func TestStoreAndSyncAtTheSameTime(t *testing.T) {
	disk, s := newSlots(t)
	var flusher sync.WaitGroup
	stop := make(chan struct{})
	flusher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := s.Sync(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for n := range 500 {
		store(t, s, n)
	}
	close(stop)
	flusher.Wait()
	if got := load(t, disk); got != 499 {
		t.Errorf("loaded %d", got)
	}
}

// TestEachSlotIsReplaced is what SlotCount says.
func TestEachSlotIsReplaced(t *testing.T) {
	disk, s := newSlots(t)
	for n := range 10 {
		store(t, s, n)
	}
	for n := 100; n < 100+checkpoint.SlotCount; n++ {
		store(t, s, n)
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for slot := range checkpoint.SlotCount {
		c := disk.Clone()
		f, err := c.OpenFile(slotsPath, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for other := range checkpoint.SlotCount {
			if other != slot {
				if _, err := f.WriteAt(make([]byte, 4), int64(other)*4096); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := load(t, c); got < 100 {
			t.Errorf("slot %d holds %d", slot, got)
		}
	}
}

func TestFailedStoreLeavesTheOneBefore(t *testing.T) {
	disk := newDisk(t)
	faulty := faultfs.Wrap(disk)
	s := openSlots(t, faulty)
	for n := range 30 {
		store(t, s, 2*n)
		faulty.Add(&faultfs.Rule{Op: faultfs.Write, Err: syscall.ENOSPC, Bytes: n})
		if err := s.Store(number(2*n + 1)); !vfs.IsFull(err) {
			t.Fatalf("error is %v", err)
		}
		if b, err := s.Load(); err != nil || string(b) != string(number(2*n)) {
			t.Errorf("after a failed store: %q, %v", b, err)
		}
		if got := load(t, disk.Clone()); got != 2*n {
			t.Errorf("after a failed store and a kill: %d, want %d", got, 2*n)
		}
	}
}

func TestFailedSyncIsTold(t *testing.T) {
	disk := newDisk(t)
	s := openSlots(t, faultfs.Wrap(disk, &faultfs.Rule{Op: faultfs.Sync}))
	store(t, s, 1)
	if err := s.Sync(); !errors.Is(err, syscall.EIO) || !vfs.IsSync(err) {
		t.Errorf("error is %v", err)
	}
}

func TestFlippedBitsInSlots(t *testing.T) {
	disk, s := newSlots(t)
	store(t, s, 1)
	store(t, s, 2)
	for bit := range 8 * (20 + len(number(2))) {
		c := disk.Clone()
		rewrite(t, c, slotsPath, func(b []byte) []byte {
			b[4096+bit/8] ^= 1 << (bit % 8)
			return b
		})
		if got := load(t, c); got != 1 {
			t.Errorf("bit %d of the newest slot: %d", bit, got)
		}
	}
	rewrite(t, disk, slotsPath, func(b []byte) []byte { return make([]byte, len(b)) })
	if _, err := openSlots(t, disk).Load(); !errors.As(err, new(*checkpoint.CorruptError)) {
		t.Errorf("of zeros: %v", err)
	}
}

func TestUnreadableSlotsAreAnError(t *testing.T) {
	disk, s := newSlots(t)
	store(t, s, 1)
	_, err := checkpoint.OpenSlots(faultfs.Wrap(disk, &faultfs.Rule{Op: faultfs.Read, Skip: 1}), slotsPath)
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("error is %v", err)
	}
	if n := disk.OpenFiles(); n != 1 {
		t.Errorf("%d files open, want that of the first slots", n)
	}
}

func TestTooLargeForASlot(t *testing.T) {
	_, s := newSlots(t)
	if err := s.Store(make([]byte, checkpoint.MaxSlotPayload)); err != nil {
		t.Fatal(err)
	}
	if err := s.Store(make([]byte, checkpoint.MaxSlotPayload+1)); !errors.As(err, new(*checkpoint.TooLargeError)) {
		t.Errorf("error is %v", err)
	}
}

func FuzzSlots(f *testing.F) {
	disk, s := newSlots(f)
	for n := range 4 {
		store(f, s, n)
	}
	h, err := disk.OpenFile(slotsPath, os.O_RDONLY, 0)
	if err != nil {
		f.Fatal(err)
	}
	slot := make([]byte, 300)
	if _, err := h.ReadAt(slot, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(slot, slot[:20], []byte{})
	f.Fuzz(func(t *testing.T, one, two, three []byte) {
		disk, _ := newSlots(t)
		w, err := disk.OpenFile(slotsPath, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range [][]byte{one, two, three} {
			if _, err := w.WriteAt(b[:min(len(b), 4096)], int64(i)*4096); err != nil {
				t.Fatal(err)
			}
		}
		s := openSlots(t, disk)
		_, _ = s.Load()
		store(t, s, 7)
		if got := load(t, disk); got != 7 {
			t.Fatalf("what was there hides what was stored: %d", got)
		}
	})
}

func BenchmarkStore(b *testing.B) {
	s, err := checkpoint.OpenSlots(vfs.OS(), b.TempDir()+"/f")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	payload := make([]byte, 112)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Store(payload); err != nil {
			b.Fatal(err)
		}
	}
}
