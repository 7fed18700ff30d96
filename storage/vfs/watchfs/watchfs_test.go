package watchfs_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
	"github.com/millstream-io/millstream/storage/vfs/watchfs"
)

// slow has calls take a while, on the clock of a bubble.
func slow(op faultfs.Op, takes time.Duration) *faultfs.Rule {
	return &faultfs.Rule{Op: op, Times: -1, Hold: func(faultfs.Op, string) { <-time.After(takes) }}
}

// watched is a file system in memory that is watched, with a file that is open.
type watched struct {
	faults *faultfs.FS
	fs     *watchfs.FS
	meter  *watchfs.Meter
	file   vfs.File
}

// story runs a test in a bubble.
func story(t *testing.T, f func(t *testing.T, w *watched)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &watched{faults: faultfs.Wrap(memfs.New()), meter: watchfs.NewMeter()}
		w.fs = watchfs.Wrap(w.faults, w.meter)
		if err := w.fs.MkdirAll("/d", 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if w.file, err = w.fs.OpenFile("/d/log", os.O_CREATE|os.O_RDWR, 0o644); err != nil {
			t.Fatal(err)
		}
		f(t, w)
		if err := w.file.Close(); err != nil {
			t.Error(err)
		}
	})
}

// write writes that many bytes, and ignores whether that succeeds.
func (w *watched) write(bytes int) { _, _ = w.file.WriteAt(make([]byte, bytes), 0) }

// Many quick calls do not hide the one that stops everybody, and a long row of
// slow ones is as slow as each of them.
func TestTheDelayIsThatOfWhoComesAtAnyTime(t *testing.T) {
	story(t, func(t *testing.T, w *watched) {
		if s := w.meter.Take(); s != (watchfs.Sample{}) {
			t.Errorf("before anything is written it has seen %+v", s)
		}
		for range 100 {
			w.write(10)
		}
		w.faults.Add(slow(faultfs.Write, time.Second))
		w.write(10)
		s := w.meter.Take()
		if s.Calls != 101 || s.Delay != time.Second {
			t.Errorf("with a write of 1 s after 100 quick ones it has seen %+v", s)
		}
		w.faults.Clear()
		w.faults.Add(slow(faultfs.Sync|faultfs.SyncDir, 300*time.Millisecond))
		for range 5 {
			if err := errors.Join(w.file.Sync(), w.fs.SyncDir("/d")); err != nil {
				t.Fatal(err)
			}
		}
		if s = w.meter.Take(); s.Calls != 10 || s.Delay < 299*time.Millisecond || s.Delay > 300*time.Millisecond {
			t.Errorf("with syncs of 300 ms it has seen %+v", s)
		}
		if s = w.meter.Take(); s != (watchfs.Sample{}) {
			t.Errorf("what was taken is there again: %+v", s)
		}
	})
}

// A call that does not end is seen while it lasts.
func TestACallUnderWayIsSeen(t *testing.T) {
	story(t, func(t *testing.T, w *watched) {
		w.faults.Add(slow(faultfs.Sync, 5*time.Second))
		ended := make(chan error, 1)
		go func() { ended <- w.file.Sync() }()
		for i := range 4 {
			<-time.After(time.Second)
			if s := w.meter.Take(); s.Calls != 1 || s.Delay.Round(time.Millisecond) != time.Duration(i+1)*time.Second {
				t.Errorf("after %d s it has seen %+v", i+1, s)
			}
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		w.meter.Take()
		if s := w.meter.Take(); s.Calls != 0 {
			t.Errorf("what has ended is under way: %+v", s)
		}
	})
}

// A sync of much may take the time for that.
func TestASyncOfMuchMayTakeLong(t *testing.T) {
	story(t, func(t *testing.T, w *watched) {
		w.faults.Add(slow(faultfs.Sync, time.Second))
		w.write(64 << 20)
		if err := w.file.Sync(); err != nil {
			t.Fatal(err)
		}
		if s := w.meter.Take(); s.Delay != 0 {
			t.Errorf("64 MiB synced in a second: %+v", s)
		}
		if err := w.file.Sync(); err != nil { // of nothing
			t.Fatal(err)
		}
		if s := w.meter.Take(); s.Delay.Round(time.Millisecond) != time.Second {
			t.Errorf("nothing synced in a second: %+v", s)
		}
	})
}

// Errors of the disk are told apart, and those of a process are none of it.
func TestErrorsAreToldApart(t *testing.T) {
	story(t, func(t *testing.T, w *watched) {
		w.faults.SetRoom(4)
		w.write(10)
		if s := w.meter.Take(); !errors.Is(s.Full, syscall.ENOSPC) || s.ReadOnly != nil || s.Broken != nil {
			t.Errorf("a full disk: %+v", s)
		}
		w.faults.Clear()
		w.faults.SetReadOnly(true)
		w.write(10)
		if s := w.meter.Take(); !errors.Is(s.ReadOnly, syscall.EROFS) || s.Full != nil || s.Broken != nil {
			t.Errorf("a read-only file system: %+v", s)
		}
		if _, err := w.fs.OpenFile("/d/new", os.O_CREATE|os.O_RDWR, 0o644); err == nil {
			t.Error("a file was made on it")
		}
		if s := w.meter.Take(); !errors.Is(s.ReadOnly, syscall.EROFS) {
			t.Errorf("a file made on a read-only file system: %+v", s)
		}
		w.faults.Clear()
		w.faults.Add(&faultfs.Rule{Op: faultfs.Write})
		w.write(10)
		if s := w.meter.Take(); !errors.Is(s.Broken, syscall.EIO) || s.Full != nil || s.ReadOnly != nil {
			t.Errorf("a broken disk: %+v", s)
		}
		w.faults.Add(&faultfs.Rule{Op: faultfs.Write, Err: syscall.EMFILE})
		w.write(10)
		if _, err := w.fs.OpenFile("/no/such", os.O_RDWR, 0o644); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("opened what is not there: %v", err)
		}
		if s := w.meter.Take(); s.Full != nil || s.ReadOnly != nil || s.Broken != nil {
			t.Errorf("no fault of the disk: %+v", s)
		}
	})
}

// More calls than can be watched at a time are counted when they end.
func TestManyCallsAtATime(t *testing.T) {
	story(t, func(t *testing.T, w *watched) {
		const calls = 300
		w.faults.Add(slow(faultfs.Sync, time.Second))
		ended := make(chan error, calls)
		for range calls {
			go func() { ended <- w.file.Sync() }()
		}
		<-time.After(500 * time.Millisecond)
		if s := w.meter.Take(); s.Calls == 0 || s.Calls > calls || s.Delay.Round(time.Millisecond) != 500*time.Millisecond {
			t.Errorf("half-way it has seen %+v", s)
		}
		for range calls {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
		if s := w.meter.Take(); s.Calls != calls || s.Delay.Round(time.Millisecond) != time.Second {
			t.Errorf("at the end it has seen %+v", s)
		}
		w.faults.Clear()
	})
}

// What files can do is what they can do below.
func TestFilesCanDoWhatTheyCanBelow(t *testing.T) {
	for name, below := range map[string]vfs.FS{"memory": memfs.New(), "faults": faultfs.Wrap(memfs.New()), "system": vfs.OS()} {
		dir := ""
		if name == "system" {
			dir = t.TempDir()
		}
		over := watchfs.Wrap(below, watchfs.NewMeter())
		for _, flag := range []int{os.O_CREATE | os.O_RDWR, os.O_RDONLY} {
			in, err := below.OpenFile(dir+"/f", flag, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			out, err := over.OpenFile(dir+"/f", flag, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			_, inFD := in.(vfs.FDer)
			_, outFD := out.(vfs.FDer)
			_, inReserves := in.(vfs.Reserver)
			_, outReserves := out.(vfs.Reserver)
			if inFD != outFD || inReserves != outReserves {
				t.Errorf("%s, flag %#x: a descriptor %t and %t, room set aside %t and %t", name, flag, inFD, outFD, inReserves, outReserves)
			}
			if err := errors.Join(in.Close(), out.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for name, over := range map[string]func(vfs.FS) vfs.FS{
		"plain":   func(below vfs.FS) vfs.FS { return below },
		"watched": func(below vfs.FS) vfs.FS { return watchfs.Wrap(below, watchfs.NewMeter()) },
	} {
		b.Run(name, func(b *testing.B) {
			f, err := over(vfs.OS()).OpenFile(b.TempDir()+"/f", os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			p := [][]byte{make([]byte, 4096)}
			for b.Loop() {
				if _, err := f.Writev(p, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
