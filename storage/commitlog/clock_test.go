package commitlog_test

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestTheClockIsSet sets the time of day while a log is written to. Append times
// never go back (rule F6), a batch is nowhere but behind those before it, and
// retention by a clock that is right removes what is old and nothing else: what
// was appended by a clock that was ahead is not old before its time.
func TestTheClockIsSet(t *testing.T) {
	const (
		hour    = int64(time.Hour / time.Millisecond)
		century = 100 * 365 * 24 * hour
		start   = 56 * 365 * 24 * hour
	)
	fs, c := memfs.New(), &clock{ms: start}
	o := options(fs, c, 1)
	o.Config = commitlog.Config{SegmentBytes: 600, SegmentAge: 10 * time.Hour, RetentionAge: 24 * time.Hour}
	l, _, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	m := &storagetest.Model{}
	append4 := func(what string, at, want int64) {
		t.Helper()
		c.ms = at
		for range 4 {
			b := storagetest.NewBatch(what, 2, storagetest.Sized(100))
			if err := l.Append([]*commitlog.Batch{b}, 1, l.End()); err != nil {
				t.Fatal(err)
			}
			if b.AppendTimeMs != want {
				t.Fatalf("%s: appended at %d h, want %d h", what, (b.AppendTimeMs-start)/hour, (want-start)/hour)
			}
			m.Append(1, b)
		}
	}
	retain := func(what string, at int64, from int) {
		t.Helper()
		if _, err := l.Retain(time.UnixMilli(at), l.End()); err != nil {
			t.Fatal(err)
		}
		l.RemoveWaste()
		if got := int(l.Start()); got != from {
			t.Fatalf("%s: the log begins at %d, want %d", what, got, from)
		}
	}
	append4("in time", start, start)
	append4("an hour back", start-hour, start)
	append4("decades back", 0, start)
	retain("an hour later", start+hour, 0)
	append4("an hour ahead", start+hour, start+hour)
	append4("right again", start+hour/2, start+hour)
	append4("a century ahead", start+century, start+century)
	append4("right again", start+2*hour, start+century)
	retain("decades back", 0, 0)
	retain("before they are old", start+24*hour, 0)
	retain("all in time are old, and the rest are of later segments", start+26*hour, 40)
	retain("years later", start+50*365*24*hour, 40)
	m.StartAt(40)
	if err := m.CheckSearch(l); err != nil {
		t.Fatal(err)
	}
	// By size it can be judged all the same.
	config := l.Config()
	config.RetentionBytes = 1
	l.SetConfig(config)
	retain("by size", start+26*hour, int(l.LastBase()))
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
