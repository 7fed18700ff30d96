package history

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// ticking is a clock that moves on by one with each look.
func ticking() func() int64 { return Ascending(func() int64 { return 0 }) }

func create(t *testing.T, o Options) *Writer {
	t.Helper()
	if o.Now == nil {
		o.Now = ticking()
	}
	o.Wall = func() time.Time { return time.UnixMilli(7) }
	w, err := Create(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func record(t *testing.T, w *Writer, events ...Event) {
	t.Helper()
	for _, e := range events {
		if err := w.Record(&e); err != nil {
			t.Fatal(err)
		}
	}
}

// read returns what a directory holds, but for the frames of files.
func read(t *testing.T, dir string) ([]Event, error) {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var all []Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if where := r.Where(e.At); !strings.HasSuffix(where, fmt.Sprintf(".ndjson:%d", e.At.Line)) {
			t.Errorf("an event is at %s", where)
		}
		if e.Kind != RecorderBegin && e.Kind != RecorderEnd {
			all = append(all, *e)
		}
	}
}

func mustRead(t *testing.T, dir string) []Event {
	t.Helper()
	events, err := read(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func ops(events []Event) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprint(e.Op))
	}
	return strings.Join(out, " ")
}

// invoke is an event that is needed, ok one that is not.
func invoke(op uint64) Event {
	return Event{Kind: AppendInvoke, Topic: "t", Op: op, Append: &Append{Content: Content{N: 1, Digest: Digest(op)}, Acks: AcksAll}}
}

func ok(op uint64) Event {
	return Event{Kind: AppendOK, Topic: "t", Op: op, Ack: &Ack{Scope: ScopeISR, Medium: MediumDisk, InSync: 1, Base: int64(op)}}
}

// Every field comes back.
func TestEventsComeBack(t *testing.T) {
	dir := t.TempDir()
	w := create(t, Options{Dir: dir, Name: "a", Role: RoleClient, Run: "r"})
	full := fullEvent()
	full.Fault = &Fault{Kind: FaultPower, Broker: 9}
	full.Metadata = &Metadata{Generation: 1, Revision: 2, Least: 3, More: true, Gone: []string{"u"}, Topics: []TopicState{{
		Topic: "t", ID: "7", Revision: 4, Settings: map[string]string{"a": "b"},
		Partitions: []PartitionState{{Partition: 5, Revision: 6, Epoch: 7, Leader: -1, LeaderEpoch: 8, ISR: []int32{1}, Replicas: []int32{2, 1}}},
	}}}
	full.Settings = &Settings{Set: map[string]string{"a": "b"}, Expected: new(int64), Revision: 9, Now: map[string]string{"a": "c"}}
	record(t, w, full)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := mustRead(t, dir)[0]
	full.T, full.Wall, full.At = 2, 7, Location{Line: 2}
	if !reflect.DeepEqual(got, full) {
		t.Errorf("got\n%+v\nwant\n%+v", got, full)
	}
	// No field was left out above.
	for i := range reflect.TypeFor[Event]().NumField() {
		if f := reflect.ValueOf(full).Field(i); f.IsZero() && f.Type() != reflect.TypeFor[*Recorder]() {
			t.Errorf("%s is not tried", reflect.TypeFor[Event]().Field(i).Name)
		}
	}
}

// A process that is killed leaves a prefix, with all that is needed; one that
// is started again goes on in another file.
func TestWhatAKilledRecorderLeaves(t *testing.T) {
	dir, now := t.TempDir(), ticking()
	killed := create(t, Options{Dir: dir, Name: "a", Now: now})
	record(t, killed, invoke(1), ok(1), invoke(2), ok(2), ok(3))
	if got := ops(mustRead(t, dir)); got != "1 1 2" {
		t.Errorf("left: %s", got)
	}
	again := create(t, Options{Dir: dir, Name: "a", Now: now})
	record(t, again, invoke(4))
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ops(mustRead(t, dir)); got != "1 1 2 4" {
		t.Errorf("left: %s", got)
	}
}

// Wherever the last line was torn, what is before it is read.
func TestTornLines(t *testing.T) {
	dir := t.TempDir()
	w := create(t, Options{Dir: dir, Name: "a"})
	record(t, w, invoke(1), invoke(2))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.000000.ndjson")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for cut := range len(whole) {
		if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		want := ""
		switch {
		case cut >= len(lines[0]+lines[1]+lines[2]):
			want = "1 2"
		case cut >= len(lines[0]+lines[1]):
			want = "1"
		}
		if got := ops(mustRead(t, dir)); got != want {
			t.Fatalf("cut at %d: %q, want %q", cut, got, want)
		}
	}
}

func TestFilesAreRotated(t *testing.T) {
	dir := t.TempDir()
	w := create(t, Options{Dir: dir, Name: "a", FileBytes: 500})
	var want []string
	for op := range uint64(30) {
		record(t, w, invoke(op))
		want = append(want, fmt.Sprint(op))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "a.*.ndjson"))
	if got := ops(mustRead(t, dir)); got != strings.Join(want, " ") || len(files) < 5 {
		t.Errorf("%d files, %s", len(files), got)
	}
	// A file that is gone is not taken for one that never was.
	if err := os.Remove(files[2]); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, dir); err == nil || !strings.Contains(err.Error(), "file 000002") {
		t.Errorf("a missing file: %v", err)
	}
}

// Recorders of one run are read in the order of time, and brokers before
// clients where it stands still.
func TestRecordersAreMerged(t *testing.T) {
	dir := t.TempDir()
	now := int64(0)
	clock := func() int64 { return now }
	a := create(t, Options{Dir: dir, Name: "a", Role: RoleClient, Now: clock})
	b := create(t, Options{Dir: dir, Name: "b", Role: RoleBroker, Broker: 1, Now: clock})
	var want []string
	for op := uint64(0); op < 1000; op += 2 { // several chunks
		now += int64(op % 3)
		record(t, a, invoke(op))
		record(t, b, invoke(op+1))
		if now++; op%4 == 0 {
			record(t, b, invoke(op))
			record(t, a, invoke(op+1))
			now++
			want = append(want, fmt.Sprint(op+1), fmt.Sprint(op), fmt.Sprint(op), fmt.Sprint(op+1))
			continue
		}
		want = append(want, fmt.Sprint(op+1), fmt.Sprint(op))
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if got := ops(mustRead(t, dir)); got != strings.Join(want, " ") {
		t.Errorf("got  %.200s\nwant %.200s", got, strings.Join(want, " "))
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.Close() // without having read it all
	if rs := r.Recorders(); len(rs) != 2 || rs[1].Broker != 1 || rs[0].Role != RoleClient {
		t.Errorf("recorders: %+v", rs)
	}
}

// Many goroutines record; each line is whole, and each one's are in its order.
func TestConcurrentRecorders(t *testing.T) {
	dir := t.TempDir()
	w := create(t, Options{Dir: dir, Name: "a", FileBytes: 4096})
	var all sync.WaitGroup
	for p := range uint32(4) {
		all.Go(func() {
			for op := range uint64(200) {
				e := invoke(op)
				e.Partition = p
				_ = w.Record(&e) // Close says it
			}
		})
	}
	all.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	next := map[uint32]uint64{}
	for _, e := range mustRead(t, dir) {
		if e.Op != next[e.Partition] {
			t.Fatalf("partition %d: %d instead of %d", e.Partition, e.Op, next[e.Partition])
		}
		next[e.Partition]++
	}
	if !reflect.DeepEqual(next, map[uint32]uint64{0: 200, 1: 200, 2: 200, 3: 200}) {
		t.Errorf("%v", next)
	}
}

func TestAClosedWriterRefuses(t *testing.T) {
	w := create(t, Options{Dir: t.TempDir(), Name: "a"})
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if e := ok(1); w.Record(&e) == nil {
		t.Error("it takes an event")
	}
}

// The first error of a file is every later answer: nobody takes what is behind
// a hole for the whole.
func TestErrorsStay(t *testing.T) {
	w := create(t, Options{Dir: t.TempDir(), Name: "a"})
	_ = w.file.Close() // the disk fails
	e := invoke(1)
	first := w.Record(&e)
	later := ok(1)
	if first == nil || !errors.Is(w.Record(&later), first) || w.Close() == nil {
		t.Errorf("first %v, closed %v", first, w.Close())
	}
}

func TestWhatIsNoHistoryIsRefused(t *testing.T) {
	begin := `{"kind":"recorder.begin","t":5,"recorder":{"version":1,"name":"a","role":"client","run":"r","file":0}}` + "\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, "holds no files"},
		{"other files", map[string]string{"a.log": "x\n", "A.000000.ndjson": "x\n"}, "holds no files"},
		{"no JSON", map[string]string{"a.000000.ndjson": "x\n"}, "a.000000.ndjson:1: invalid"},
		{"no beginning", map[string]string{"a.000000.ndjson": `{"kind":"append.ok"}` + "\n"}, "begins with"},
		{"a later version", map[string]string{"a.000000.ndjson": strings.Replace(begin, `"version":1`, `"version":2`, 1)}, "version 2"},
		{"another name", map[string]string{"b.000000.ndjson": begin}, "recorder a"},
		{"another number", map[string]string{"a.000000.ndjson": strings.Replace(begin, `"file":0`, `"file":1`, 1)}, "number 1"},
		{"another run", map[string]string{"a.000000.ndjson": begin, "b.000000.ndjson": strings.NewReplacer(`"a"`, `"b"`, `"r"`, `"s"`).Replace(begin)}, `run "s"`},
		{"no first file", map[string]string{"a.000001.ndjson": begin}, "file 000000"},
		{"damage", map[string]string{"a.000000.ndjson": begin + "{\x00}\n"}, "a.000000.ndjson:2: invalid"},
		{"a bad digest", map[string]string{"a.000000.ndjson": begin + `{"kind":"append.invoke","t":5,"append":{"n":1,"digest":"1"}}` + "\n"}, "16 hexadecimal"},
		{"time goes back", map[string]string{"a.000000.ndjson": begin + `{"kind":"fault.end","t":4}` + "\n"}, "time 4"},
		{"a long line", map[string]string{"a.000000.ndjson": begin + strings.Repeat("x", maxLine+1) + "\n"}, "a.000000.ndjson:2: a line has more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := read(t, dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if _, err := Create(Options{Dir: t.TempDir(), Name: "A.b"}); err == nil {
		t.Error("a bad name is taken")
	}
}

func TestHolds(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Join(dir, "none")} {
		if held, err := Holds(d); held || err != nil {
			t.Errorf("%s: %t, %v", d, held, err)
		}
	}
	_ = create(t, Options{Dir: dir, Name: "a"}).Close() // the file is there
	if held, err := Holds(dir); !held || err != nil {
		t.Errorf("%t, %v", held, err)
	}
}

// Digests differ where records or their order do.
func TestDigests(t *testing.T) {
	records := []Digest{
		DigestRecord(nil, nil), DigestRecord([]byte{}, nil), DigestRecord([]byte("a"), nil), DigestRecord(nil, []byte("a")),
		DigestRecord([]byte("a"), []byte("b")), DigestRecord([]byte("ab"), nil), DigestRecord([]byte("b"), []byte("a")),
	}
	if len(slices.Compact(slices.Sorted(slices.Values(records)))) != len(records) {
		t.Errorf("some are the same: %x", records)
	}
	sum := func(d ...Digest) Content {
		var s Sum
		for _, d := range d {
			s.Add(d)
		}
		return s.Content()
	}
	if a, b := sum(1, 2), sum(2, 1); a.Digest == b.Digest || a.N != 2 || sum(1).Digest == sum().Digest {
		t.Errorf("%v, %v", a, b)
	}
}

func BenchmarkRecord(b *testing.B) {
	w, err := Create(Options{Dir: b.TempDir(), Name: "a"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		e := invoke(i)
		if err := w.Record(&e); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}
