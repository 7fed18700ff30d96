package segment_test

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// lookedAt is a file system in which nobody gets to see an index before all those
// who are expected have opened it, or found that it is not there.
type lookedAt struct {
	vfs.FS

	looked, written atomic.Int32
	expected        int32
	all             chan struct{} // nil: nobody is expected
}

func (f *lookedAt) expect(readers int32) {
	f.expected, f.all = readers, make(chan struct{})
	f.written.Store(0)
}

func (f *lookedAt) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	switch {
	case strings.HasSuffix(name, checkpoint.TempSuffix) && flag&os.O_CREATE != 0:
		f.written.Add(1)
	case strings.HasSuffix(name, segment.IndexSuffix) && f.all != nil:
		n := f.looked.Add(1)
		if n == f.expected {
			close(f.all)
		}
		if n <= f.expected {
			<-f.all
		}
	}
	return file, err
}

// Readers who all find that the index is missing, or damaged, have it made once:
// two who write one file at a time could leave what neither has written.
func TestOneReaderMakesTheIndexAgain(t *testing.T) {
	for name, spoil := range map[string]func(fsys *memfs.FS, path string) error{
		"missing": func(fsys *memfs.FS, path string) error { return fsys.Remove(path) },
		"damaged": func(fsys *memfs.FS, path string) error {
			f, err := fsys.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			if _, err := f.WriteAt([]byte{1, 2, 3, 4}, 20); err != nil {
				return err
			}
			return f.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem := memfs.New()
			if err := mem.MkdirAll("/d", 0o755); err != nil {
				t.Fatal(err)
			}
			const readers = 4
			disk := &lookedAt{FS: mem}
			l := create(t, newOptions(disk, "/d", segment.NewFiles(2)), 0)
			for range 50 {
				l.append(10, 10_000, 1)
			}
			l.seal()
			end, size := l.s.End(), l.s.Size()
			l.s.Retire()
			path := "/d/" + segment.Name(0, segment.IndexSuffix)
			if err := spoil(mem, path); err != nil {
				t.Fatal(err)
			}

			disk.expect(readers)
			s := segment.OpenSealed(&l.o, 0, end, size)
			entries := make([]int, readers)
			var reading sync.WaitGroup
			for i := range readers {
				reading.Go(func() {
					if !s.Pin() {
						t.Error("retired")
						return
					}
					defer s.Unpin()
					x, err := s.Index()
					if err != nil {
						t.Error(err)
						return
					}
					entries[i] = x.Entries()
				})
			}
			reading.Wait()
			if n := disk.written.Load(); n != 1 {
				t.Errorf("the index was written %d times", n)
			}
			for i, n := range entries {
				if n != entries[0] || n < 2 {
					t.Errorf("reader %d has an index of %d entries, and the first of %d", i, n, entries[0])
				}
			}
			if p, err := segment.ReadEnd(&l.o, 0); err != nil || p.Offset != record.Offset(500) {
				t.Errorf("the file says that the segment ends at %d, %v", p.Offset, err)
			}
			s.Retire()
		})
	}
}
