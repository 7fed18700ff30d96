package vfs_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millstream-io/millstream/storage/vfs"
)

const childEnv = "MILLSTREAM_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		holdLock(name)
	}
	os.Exit(m.Run())
}

func create(t testing.TB, name string) vfs.File {
	t.Helper()
	f, err := vfs.OS().OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// random returns up to n pieces of random lengths, empty ones among them.
func random(rng *rand.Rand, n, size int) (pieces [][]byte, all []byte) {
	for range rng.IntN(n + 1) {
		p := make([]byte, rng.IntN(size+1))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		pieces = append(pieces, p)
		all = append(all, p...)
	}
	return pieces, all
}

func TestWritevOfAnyNumberOfPieces(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "f"))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		pieces, all := random(rng, 5*vfs.MaxPieces, 40)
		off := rng.Int64N(10_000)
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		n, err := f.Writev(pieces, off)
		if err != nil || n != len(all) {
			t.Fatalf("%d pieces: wrote %d of %d, %v", len(pieces), n, len(all), err)
		}
		got := make([]byte, len(all))
		if _, err := f.ReadAt(got, off); len(all) > 0 && err != nil || !bytes.Equal(got, all) {
			t.Fatalf("%d pieces: read back %v, same %v", len(pieces), err, bytes.Equal(got, all))
		}
	}
}

func TestWritevDoesNotAllocate(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "f"))
	pieces := make([][]byte, 300)
	for i := range pieces {
		pieces[i] = make([]byte, 100)
	}
	n := testing.AllocsPerRun(100, func() {
		if _, err := f.Writev(pieces, 0); err != nil {
			t.Error(err)
		}
	})
	if n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

// TestCloseUnderCalls proves that a call that comes too late never lands in a
// file that got the same descriptor.
func TestCloseUnderCalls(t *testing.T) {
	dir := t.TempDir()
	for range 100 {
		f := create(t, filepath.Join(dir, "f"))
		var writers sync.WaitGroup
		begun := make(chan struct{}, 3)
		for _, call := range []func() error{
			func() error { _, err := f.Writev([][]byte{[]byte("stray "), []byte("bytes")}, 0); return err },
			func() error { _, err := f.WriteAt([]byte("stray"), 0); return err },
			f.Sync,
		} {
			writers.Go(func() {
				err := call()
				begun <- struct{}{}
				for err == nil {
					err = call()
				}
				if !errors.Is(err, os.ErrClosed) {
					t.Errorf("error is %v", err)
				}
			})
		}
		for range 3 {
			<-begun
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		g := create(t, filepath.Join(dir, "g"))
		writers.Wait()
		if n, err := g.Size(); n != 0 || err != nil {
			t.Fatalf("the next file has %d bytes, %v", n, err)
		}
		_ = g.Close()
	}
}

// holdLock is what the child process of the next test does.
func holdLock(name string) {
	_, err := vfs.OS().Lock(name)
	_, _ = fmt.Fprintln(os.Stdout, err)
	_, _ = io.Copy(io.Discard, os.Stdin) // Until killed.
	os.Exit(0)
}

func TestLockIsHeldByAnotherProcess(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), childEnv+"="+name)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "<nil>\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	_, err = vfs.OS().Lock(name)
	var locked *vfs.LockedError
	if !errors.As(err, &locked) || locked.PID != child.Process.Pid || locked.Path != name {
		t.Fatalf("error is %v, the child is %d", err, child.Process.Pid)
	}
	if want := fmt.Sprintf("in use by process %d", child.Process.Pid); !strings.Contains(err.Error(), want) {
		t.Errorf("error is %q, want %q in it", err, want)
	}

	// Killed, it holds nothing, whatever it left behind.
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	l, err := vfs.OS().Lock(name)
	if err != nil {
		t.Fatalf("lock of a dead process: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestLockedWithoutANumber(t *testing.T) {
	if got := (&vfs.LockedError{Path: "p"}).Error(); !strings.Contains(got, "another process") {
		t.Errorf("error is %q", got)
	}
}

func BenchmarkWritev(b *testing.B) {
	for _, n := range []int{1, 16, 64, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := create(b, filepath.Join(b.TempDir(), "f"))
			pieces := make([][]byte, n)
			for i := range pieces {
				pieces[i] = make([]byte, 16<<10)
			}
			b.SetBytes(int64(n) * 16 << 10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Writev(pieces, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
