package commitlog_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// A torn tail that may have been acknowledged is there, and is found, until
// whoever opens the log agrees that it is cut.
func TestATornTailIsCutByConsent(t *testing.T) {
	for name, at := range map[string]struct {
		batches int
		left    commitlog.TornTail
	}{
		"of the first epoch":     {1, commitlog.TornTail{LastEpoch: commitlog.NoEpoch}},
		"of several":             {3, commitlog.TornTail{End: 2, LastEpoch: 5}},
		"at a segment's begin":   {4, commitlog.TornTail{End: 3, LastEpoch: 6}},
		"that goes on elsewhere": {6, commitlog.TornTail{End: 5, LastEpoch: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			fs, c := memfs.New(), &clock{ms: 1000}
			if err := errors.Join(fs.MkdirAll("/data", 0o755), fs.SyncDir("/")); err != nil {
				t.Fatal(err)
			}
			l, _, err := commitlog.Open(options(fs, c, 1))
			if err != nil {
				t.Fatal(err)
			}
			for i := range at.batches {
				b := storagetest.NewBatch("b", 1, storagetest.Sized(250))
				if err := l.Append([]*commitlog.Batch{b}, record.LeaderEpoch(4+i), 0); err != nil {
					t.Fatal(err)
				}
				if _, err := l.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			fs = fs.Crash(memfs.LoseUnsynced())
			files, err := storagetest.Files(fs, "/data/p")
			if err != nil {
				t.Fatal(err)
			}
			var last storagetest.File
			for _, f := range files {
				if f.Path[len(f.Path)-4:] == ".log" {
					last = f
				}
			}
			if err := storagetest.Flip(fs, last.Path, last.Size-1, 0); err != nil {
				t.Fatal(err)
			}
			torn, err := storagetest.ReadFile(fs, last.Path)
			if err != nil {
				t.Fatal(err)
			}
			refuses := errors.New("not yet")
			var asked []commitlog.TornTail
			o := options(fs, c, 2)
			o.BeforeCut = func(left commitlog.TornTail) error {
				asked = append(asked, left)
				return refuses
			}
			for range 3 {
				if _, _, err := commitlog.Open(o); !errors.Is(err, refuses) {
					t.Fatalf("opened: %v", err)
				}
				if is, err := storagetest.ReadFile(fs, last.Path); err != nil || !bytes.Equal(is, torn) || fs.OpenFiles() != 0 {
					t.Fatalf("%d bytes of %d, %d files open, %v", len(is), len(torn), fs.OpenFiles(), err)
				}
				fs = fs.Clone() // and be it killed
				o.FS = fs
			}
			if len(asked) != 3 || asked[2] != at.left {
				t.Errorf("asked about %+v, want %+v", asked, at.left)
			}
			refuses = nil
			l, r, err := commitlog.Open(o)
			if err != nil || !r.TailCut || l.End() != at.left.End || len(asked) != 4 {
				t.Fatalf("%+v, asked %d times, %v", r, len(asked), err)
			}
			if last := l.EpochAt(l.End() - 1); l.End() > 0 && last != at.left.LastEpoch {
				t.Errorf("the last epoch is %d, and it said %d", last, at.left.LastEpoch)
			}
			// What a killed process leaves was never acknowledged: nobody is asked.
			if err := errors.Join(l.Append([]*commitlog.Batch{storagetest.NewBatch("b", 1)}, 20, 0), l.StoreCheckpoint()); err != nil {
				t.Fatal(err)
			}
			o.FS = fs.Clone()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			files, err = storagetest.Files(o.FS, "/data/p")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if f.Path == last.Path {
					if err := storagetest.Overwrite(o.FS, f.Path, []byte("half a batch"), f.Size); err != nil {
						t.Fatal(err)
					}
				}
			}
			if _, r, err = commitlog.Open(o); err != nil || !r.TailCut || !r.SameBoot || len(asked) != 4 {
				t.Errorf("%+v, asked %d times, %v", r, len(asked), err)
			}
		})
	}
}
