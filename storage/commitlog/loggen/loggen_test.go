package loggen_test

import (
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/commitlog/loggen"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestGeneratedLogIsALog makes a log, and then more of it without being told
// what it is.
func TestGeneratedLogIsALog(t *testing.T) {
	fsys := memfs.New()
	if err := fsys.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	o := loggen.Options{
		FS: fsys, Dir: "/d/p", Bytes: 1 << 20, ClusterID: [16]byte{4}, TopicID: record.TopicID{5}, Partition: 6,
		SegmentBytes: 300_000, RecordBytes: 100, BatchRecords: 100,
	}
	if _, err := loggen.Generate(o); err != nil {
		t.Fatal(err)
	}
	end, err := loggen.Generate(loggen.Options{FS: fsys, Dir: "/d/p", Bytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	l, r, err := commitlog.Open(commitlog.Options{
		FS: fsys, Dir: "/d/p", ClusterID: o.ClusterID, TopicID: o.TopicID, Partition: o.Partition,
	})
	if err != nil || r.End != end || r.Scanned != 0 || l.Size() < 2<<20 || l.Segments() < 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	records := int64(0)
	for base := record.Offset(0); base < end; {
		found, err := segment.Walk(fsys, "/d/p/"+segment.Name(base, segment.LogSuffix), nil)
		if err != nil || found.Bad != nil {
			t.Fatalf("%+v, %v", found, err)
		}
		records += found.Records
		base = found.End.Offset
	}
	if records != int64(end) {
		t.Errorf("%d records, end is %d", records, end)
	}
}
