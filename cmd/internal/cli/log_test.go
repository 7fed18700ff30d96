package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// segmentBytes makes a segment with batches of two records each.
func segmentBytes(t *testing.T, base record.Offset, batches int) string {
	t.Helper()
	info := record.SegmentInfo{ClusterID: [16]byte{1}, TopicID: record.TopicID{2}, Partition: 3, BaseOffset: base}
	b := record.AppendSegmentInfo(nil, &info)
	for i := range batches {
		var batch []byte
		for _, value := range []string{"one", "two"} {
			r := record.Record{Key: []byte("k"), Value: []byte(value), TimestampMs: 5, HasTimestamp: true}
			batch = record.AppendRecord(batch, &r)
		}
		h := record.Header{
			BaseOffset: base + record.Offset(2*i), Records: 2, LastOffsetDelta: 1, LeaderEpoch: 1, AppendTimeMs: 10,
			MaxTimestampMs: 5, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
		}
		b = record.AppendLogBatchHeader(b, &h, len(batch), record.UpdateCRC(0, batch))
		b = append(b, batch...)
	}
	return string(b)
}

// dataDir is a data directory with one partition.
func dataDir(t *testing.T, segments map[record.Offset]string) (dir, partition string) {
	t.Helper()
	dir = t.TempDir()
	partition = filepath.Join(dir, "topics", record.TopicID{2}.String()+"-3")
	for base, text := range segments {
		writeFile(t, filepath.Join(partition, segment.Name(base, segment.LogSuffix)), text)
	}
	writeFile(t, filepath.Join(dir, "trash", "x", segment.Name(0, segment.LogSuffix)), "rubbish")
	return dir, partition
}

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	good := segmentBytes(t, 0, 3)
	flipped := []byte(good)
	flipped[len(flipped)-3] ^= 1
	for _, c := range []struct {
		name     string
		segments map[record.Offset]string
		want     string // in the table; empty: all is good
	}{
		{"good", map[record.Offset]string{0: good}, ""},
		{"empty", map[record.Offset]string{0: segmentBytes(t, 0, 0)}, ""},
		{"flipped bit", map[record.Offset]string{0: string(flipped)}, "BAD"},
		{"torn", map[record.Offset]string{0: good[:len(good)-1]}, "BAD"},
		{"no segment", map[record.Offset]string{0: "rubbish"}, "BAD"},
		{"gap", map[record.Offset]string{0: good, 8: segmentBytes(t, 8, 1)}, "ends at offset 6"},
		{"not sealed", map[record.Offset]string{0: good, 6: segmentBytes(t, 6, 1)}, "no index"},
		{"misnamed", map[record.Offset]string{7: good}, "begins at offset 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, _ := dataDir(t, c.segments)
			stdout, stderr, exit := run(t, nil, "log", "verify", dir)
			if c.want == "" && (exit != 0 || strings.Contains(stdout, "BAD")) || c.want != "" && (exit != 1 || !strings.Contains(stdout, c.want)) {
				t.Errorf("exit %d\n%s%s", exit, stdout, stderr)
			}
			if strings.Contains(stdout, "trash") {
				t.Error("the trash was looked at")
			}
		})
	}
}

func TestVerifyFindsAStrangerInADirectory(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, record.TopicID{9}.String()+"-3", segment.Name(0, segment.LogSuffix)), segmentBytes(t, 0, 1))
	if stdout, _, exit := run(t, nil, "log", "verify", dir, "-o", "json"); exit != 1 || !strings.Contains(stdout, "belongs to "+record.TopicID{2}.String()) {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
}

func TestDump(t *testing.T) {
	dir, partition := dataDir(t, map[record.Offset]string{0: segmentBytes(t, 0, 3)})
	stdout, _, exit := run(t, nil, "log", "dump", dir)
	if exit != 0 || strings.Count(stdout, "\n") != 4 || !strings.HasPrefix(stdout, "BASE") {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
	stdout, _, exit = run(t, nil, "log", "dump", partition, "-o", "json", "--from", "3")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if exit != 0 || len(lines) != 2 { // the batch that holds offset 3, and the one after it
		t.Fatalf("exit %d\n%s", exit, stdout)
	}
	var b batchView
	if err := json.Unmarshal([]byte(lines[0]), &b); err != nil || b.BaseOffset != 2 || b.EndOffset != 4 || b.Records != 2 {
		t.Errorf("%v in %s", err, lines[0])
	}
	stdout, _, exit = run(t, nil, "log", "dump", dir, "--records", "--from", "5")
	if want := `{"offset":5,"timestamp_ms":5,"key":"k","value":"two","headers":[]}` + "\n"; exit != 0 || stdout != want {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
	if stdout, _, exit = run(t, nil, "log", "dump", dir, "-o", "yaml"); exit != 0 || strings.Count(stdout, "- file:") != 3 {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
}

// A copy holds the whole batches and nothing else: every protobuf parser reads
// it. One that is not of the whole segment is called so.
func TestDumpCopyParses(t *testing.T) {
	torn := segmentBytes(t, 0, 3)
	_, partition := dataDir(t, map[record.Offset]string{0: torn[:len(torn)-1]})
	file := filepath.Join(t.TempDir(), "copy")
	stdout, stderr, exit := run(t, nil, "log", "dump", partition, "--copy", file)
	if exit != 1 || stdout != "" || !strings.Contains(stderr, "up to offset 4") || !strings.Contains(stderr, "(offset 4)") || !strings.Contains(stderr, "damaged at byte") {
		t.Fatalf("exit %d, %s", exit, stderr)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy of a part is called like one of the whole: %v", err)
	}
	b, err := os.ReadFile(file + ".partial")
	if err != nil {
		t.Fatal(err)
	}
	var s pb.Segment
	if err := proto.Unmarshal(b, &s); err != nil || len(s.GetBatches()) != 2 || s.GetInfo().GetPartition() != 3 {
		t.Errorf("%v, %v", err, &s)
	}
	if stdout, _, exit := run(t, nil, "log", "dump", partition, "--copy", "-"); exit != 1 || stdout != string(b) {
		t.Errorf("exit %d, %d bytes", exit, len(stdout))
	}
	if _, stderr, exit := run(t, nil, "log", "dump", partition, "--copy", file); exit != 1 || !strings.Contains(stderr, "not there yet") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}

// A flipped bit is found in a sealed segment and in one that is not.
func TestDumpCopyOfDamageFails(t *testing.T) {
	flipped := []byte(segmentBytes(t, 0, 3))
	flipped[len(flipped)/2] ^= 1
	_, partition := dataDir(t, map[record.Offset]string{0: string(flipped)})
	file := filepath.Join(t.TempDir(), "copy")
	for _, sealed := range []bool{false, true} {
		if sealed {
			writeFile(t, filepath.Join(partition, segment.Name(0, segment.IndexSuffix)), "x")
			if err := os.Remove(file + ".partial"); err != nil {
				t.Fatal(err)
			}
		}
		_, stderr, exit := run(t, nil, "log", "dump", partition, "--copy", file)
		if exit != 1 || !strings.Contains(stderr, "damaged at byte") || !strings.Contains(stderr, "not in the copy") {
			t.Errorf("sealed %v: exit %d, %s", sealed, exit, stderr)
		}
	}
}

func TestDumpOfNothing(t *testing.T) {
	if _, stderr, exit := run(t, nil, "log", "dump", t.TempDir()); exit != 1 || !strings.Contains(stderr, "no segment files") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
	if _, stderr, exit := run(t, nil, "log", "verify", "/no/where"); exit != 1 || !strings.Contains(stderr, "/no/where") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}
