package ceiling

import (
	"errors"
	"io"
	"os"

	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/vfs"
)

// aheadBytes is how much room is set aside at a time, as a segment does when it
// has grown.
const aheadBytes = 64 << 20

// store is the file of a server. Only one goroutine appends.
type store struct {
	file          vfs.File
	region        *mmap.Region // nil: it is not read
	end, reserved int64
	most          int64
}

// openStore makes a file that is to have so many bytes in the end.
func openStore(name string, most int64, read bool) (*store, error) {
	f, err := vfs.OS().OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	s := &store{file: f, most: most}
	if read {
		if s.region, err = mmap.Open(f, most); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return s, nil
}

// append appends pieces with n bytes.
func (s *store) append(pieces [][]byte, n int) error {
	if end := s.end + int64(n); end > s.reserved {
		s.reserved = max(end, min(s.reserved+aheadBytes, s.most))
		if r, ok := s.file.(vfs.Reserver); ok {
			_ = r.Reserve(s.end, s.reserved-s.end) // without, it is slower
		}
	}
	if _, err := s.file.Writev(pieces, s.end); err != nil {
		return err
	}
	s.end += int64(n)
	return nil
}

// copyAt reads what was appended.
func (s *store) copyAt(dst []byte, off int64) error { return s.region.CopyAt(dst, off) }

// close closes the file. REQUIRES: nobody appends or reads.
func (s *store) close() error {
	if s.region != nil {
		s.region.Release()
		mmap.Settle()
	}
	return s.file.Close()
}

// digestOf reads a file.
func digestOf(name string) (d digest, err error) {
	f, err := os.Open(name)
	if err != nil {
		return d, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b := make([]byte, 1<<20)
	for {
		n, err := f.Read(b)
		d.add(b[:n])
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return d, err
		}
	}
}
