package storagetest

import (
	"fmt"

	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// Moment is a disk as it was just after an operation, and what its user
// expected of it then.
type Moment[T any] struct {
	N        int // of the operation
	Op       memfs.Op
	Disk     *memfs.FS
	Expected T
}

// String says which moment it is, so that a failed test says how to repeat it.
func (m *Moment[T]) String() string { return fmt.Sprintf("after operation %d (%s)", m.N, m.Op) }

// Recorder keeps a disk after every k-th operation. What a power loss or the
// end of the process leaves is then found out from each: Disk.Crash, Disk.Clone.
type Recorder[T any] struct {
	Moments []Moment[T]
	n       int
}

// Record begins to keep the disk of fsys after every k-th operation, and with
// each what expected returns then. expected is called on the goroutine that
// uses the disk, in the middle of whatever it does.
func Record[T any](fsys *memfs.FS, every int, expected func() T) *Recorder[T] {
	r := &Recorder[T]{}
	fsys.SetHook(func(op memfs.Op) {
		r.n++
		if r.n%every == 0 {
			r.Moments = append(r.Moments, Moment[T]{N: r.n, Op: op, Disk: fsys.Clone(), Expected: expected()})
		}
	})
	return r
}

// Policies are ways in which a power loss can treat what was not synced, some
// of them made from a seed.
func Policies(seed uint64) []memfs.Policy {
	return []memfs.Policy{
		memfs.LoseUnsynced(), memfs.KeepUnsynced(), memfs.LoseEntries(), memfs.LoseWrites(),
		memfs.TearLast(1), memfs.TearLast(100), memfs.KeepRandom(seed), memfs.KeepRandom(seed + 1),
	}
}
