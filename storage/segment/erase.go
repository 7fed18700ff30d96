package segment

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Erase removes the files of a segment, so that none of them can come back with
// anything in it. DURABLE, also where a name of them does come back: then it is
// a file without bytes, which is no segment, and no index.
//
// WHY: the name of a file that was removed may come back after a power loss
// although a sync of the directory succeeded, if one before that had failed (see
// memfs.FS.FailSyncDir). Another process cannot know of that. A segment that
// comes back behind the end of the log would be taken for its end, and one in
// the middle of what was written since would stand before that.
//
// REQUIRES: nobody reads the files.
func Erase(o *Options, base record.Offset) error {
	if err := eraseFiles(o, base); err != nil {
		return err
	}
	return o.FS.SyncDir(o.Dir)
}

// eraseFiles is Erase but for the sync of the directory. The log goes first: an
// index without a log is nothing, but a log without an index would have to be
// read. A partial index is believed only where it fits, so it may come back.
func eraseFiles(o *Options, base record.Offset) error {
	for _, suffix := range [...]string{LogSuffix, IndexSuffix} {
		if err := eraseFile(o.FS, filepath.Join(o.Dir, Name(base, suffix))); err != nil {
			return err
		}
	}
	return removeFile(o.FS, filepath.Join(o.Dir, Name(base, PartialSuffix)))
}

// EraseIndex removes the index of a segment as Erase does, but for the sync of
// the directory.
func EraseIndex(o *Options, base record.Offset) error {
	return eraseFile(o.FS, filepath.Join(o.Dir, Name(base, IndexSuffix)))
}

// eraseFile takes the bytes of a file away, durably, and then its name. A file
// that is not there is no error.
func eraseFile(fsys vfs.FS, name string) error {
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size == 0 {
		// Who made it so may have met a failed sync: see RenewLength.
		err = f.Truncate(1)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			err = &SyncError{File: name, Err: err}
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return removeFile(fsys, name)
}
