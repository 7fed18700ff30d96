package commitlog_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func batch(records int, value string) *commitlog.Batch {
	var b []byte
	for i := range records {
		b = record.AppendRecord(b, &record.Record{Value: []byte(fmt.Sprintf("%s-%d", value, i))})
	}
	p := record.Pieces{b}
	return &commitlog.Batch{Pieces: p, Summary: record.Summary{Records: uint32(records), CRC: p.CRC(), Bytes: len(b)}}
}

func TestWhatIsAppendedIsReadAlsoAfterAReopen(t *testing.T) {
	for name, o := range map[string]commitlog.Options{
		"mem": {FS: memfs.New(), Dir: "/p"},
		"os":  {FS: vfs.OS(), Dir: t.TempDir() + "/p"},
	} {
		t.Run(name, func(t *testing.T) {
			o.Config.SegmentBytes = 1000
			l, rec, err := commitlog.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", rec)
			var want []byte
			for i := range 20 {
				if err := l.Append([]*commitlog.Batch{batch(2, fmt.Sprint("a", i)), batch(1, "b")}, 1, 0); err != nil {
					t.Fatal(err)
				}
			}
			read := func() []byte {
				var out []byte
				r := l.NewReader()
				for off := l.Start(); off < l.End(); {
					g, err := r.Read(off, l.End(), 300, func(n int) []byte { return make([]byte, n) })
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, g.Bytes...)
					off = g.Next
				}
				return out
			}
			want = read()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, rec, err = commitlog.Open(o); err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v segments %d", rec, l.Segments())
			if !bytes.Equal(read(), want) {
				t.Fatal("differs")
			}
			end, err := l.TruncateTo(35)
			t.Log(end, err)
			start, err := l.DeleteBefore(11)
			t.Log(start, err, l.Segments(), l.Size())
			read()
		})
	}
}
