package commitlog_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestAFailedOpenLeavesNothingOpen makes each call fail that opening a log makes.
// Who opens it tries again for as long as the disk is as it is: a descriptor for
// each attempt would be all that there are.
func TestAFailedOpenLeavesNothingOpen(t *testing.T) {
	u := filled(t)
	u.epoch++
	u.append()
	failures := 0
	for _, disk := range []*memfs.FS{u.fs.Clone(), u.fs.Crash(memfs.KeepUnsynced()), u.fs.Crash(memfs.TearLast(1))} {
		open := func(fsys vfs.FS) error {
			l, _, err := commitlog.Open(options(fsys, &u.clock, 9))
			if err != nil {
				return err
			}
			return l.Close()
		}
		clean := faultfs.Wrap(disk.Clone())
		if err := open(clean); err != nil {
			t.Fatal(err)
		}
		for skip := range clean.Calls(faultfs.Any) {
			for _, times := range []int{1, -1} {
				left := disk.Clone()
				err := open(faultfs.Wrap(left, &faultfs.Rule{Skip: skip, Times: times}))
				if err != nil {
					failures++
				}
				if n := left.OpenFiles(); n != 0 {
					t.Fatalf("call %d fails, %d times: %d files are open, after %v", skip, times, n, err)
				}
			}
		}
	}
	if failures < 50 {
		t.Fatalf("opening failed only %d times", failures)
	}
}

// TestAnIndexThatTheDiskDoesNotGive: an index says nothing that the log does not
// say, so a log whose indexes cannot be read can be. Where there is only no
// descriptor for one, it is not made again.
func TestAnIndexThatTheDiskDoesNotGive(t *testing.T) {
	u := filled(t)
	if err := u.log.Close(); err != nil {
		t.Fatal(err)
	}
	m := u.now.before
	for what, rule := range map[string]*faultfs.Rule{
		"read":       {Op: faultfs.Read, Path: "*.index", Times: -1},
		"open":       {Op: faultfs.Open, Path: "*.index", Times: -1},
		"descriptor": {Op: faultfs.Open, Path: "*.index", Times: -1, Err: syscall.EMFILE},
	} {
		t.Run(what, func(t *testing.T) {
			fsys := faultfs.Wrap(u.fs.Clone())
			l, _, err := commitlog.Open(options(fsys, &u.clock, 1))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close() //nolint:errcheck // Nothing was appended.
			fsys.Add(rule)
			if bad, err := probe(m, l); rule.Err == nil && (err != nil || bad > 0) {
				t.Fatalf("%d errors: %v", bad, err)
			} else if rule.Err != nil && !errors.Is(err, rule.Err) {
				t.Fatalf("without a descriptor: %v", err)
			}
			if err := m.Check(l, m.End()); rule.Err == nil && err != nil {
				t.Fatal(err)
			}
		})
	}
}
