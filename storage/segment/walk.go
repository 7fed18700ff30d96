package segment

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Entry is one batch of a segment file.
type Entry struct {
	Header   record.Header
	Position int64 // in bytes from the start of the file
	// Bytes are the whole field of Segment.batches. BORROWED: until the
	// function that was given it returns.
	Bytes []byte
}

// File is what Walk found in a segment file.
type File struct {
	Info    record.SegmentInfo
	Size    int64 // of the file, in bytes
	Valid   int64 // bytes before the first bad batch, or Size
	Batches int64
	Records int64
	End     Point
	// Bad says what is wrong behind the valid bytes; nil: nothing. In a segment
	// that is being written it may be a batch under way.
	Bad *CorruptError
}

// Walk reads a segment file from outside: without locks, for reading only, and
// as far as it reached when Walk began. It calls visit, unless nil, for each
// batch up to the first bad one, and ends with visit's error if it returns
// one.
//
// The error is also that of opening the file, a *CorruptError if it does not
// begin as a segment does, or a *record.UnsupportedVersionError, wrapped.
func Walk(fsys vfs.FS, path string, visit func(Entry) error) (File, error) {
	o := Options{FS: fsys, Dir: filepath.Dir(path), Files: NewFiles(1)}
	f, _, err := o.openFile(path, false)
	if err != nil {
		return File{}, err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	base, _, _ := ParseName(filepath.Base(path))
	out := File{}
	if out.Info, err = ReadInfo(f, path, base); err != nil {
		return File{}, err
	}
	if out.Size, err = f.Size(); err != nil {
		return File{}, err
	}
	scan := NewScanner(f, path, Start(out.Info.BaseOffset, Point{Epoch: NoEpoch}), out.Size)
	for scan.Next() {
		out.Batches++
		h := scan.Header()
		out.Records += int64(h.Records)
		if visit == nil {
			continue
		}
		if err := visit(Entry{Header: h, Position: scan.Position(), Bytes: scan.Bytes()}); err != nil {
			return out, err
		}
	}
	out.End, out.Bad = scan.Point(), scan.Bad()
	out.Valid = out.End.Position
	return out, nil
}

// CheckIndex compares the index file of a segment with what Walk found in its
// log. present is false if there is none; the error says what does not fit.
func CheckIndex(fsys vfs.FS, path string, log *File) (present bool, err error) {
	id := Identity{ClusterID: log.Info.ClusterID, TopicID: log.Info.TopicID, Partition: log.Info.Partition}
	o := Options{FS: fsys, Dir: filepath.Dir(path), Identity: id}
	base := log.Info.BaseOffset
	x, err := readIndex(&o, base, IndexSuffix, filepath.Join(o.Dir, Name(base, IndexSuffix)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return true, err
	case x.End.Position != log.End.Position || x.End.Offset != log.End.Offset ||
		x.End.MaxTimestampMs != log.End.MaxTimestampMs:
		return true, ErrIndex
	}
	return true, nil
}
