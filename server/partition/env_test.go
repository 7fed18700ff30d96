package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const logDir = "/d/p"

// eager syncs at once, each on a goroutine of its own.
type eager struct {
	running sync.WaitGroup
	refuse  atomic.Pointer[error] // what syncs end with instead, if set
}

func (f *eager) Submit(s Syncer) {
	f.running.Go(func() {
		if err := f.refuse.Load(); err != nil {
			(*Partition)(s.(*syncer)).synced(syncEnd{err: *err})
			return
		}
		_ = s.Sync()
	})
}

// watcher remembers what it was told.
type watcher struct {
	mu          sync.Mutex
	groups      []int
	refused     int
	lost        int
	handOvers   []bool // whether another led in the end
	quarantined []error
	failed      []error
}

func (w *watcher) Appended(batches, _, _ int) {
	w.with(func() { w.groups = append(w.groups, batches) })
}
func (w *watcher) AppendFailed(n int, _ error) {
	w.with(func() { w.refused += n })
}
func (w *watcher) Quarantined(err error) {
	w.with(func() { w.quarantined = append(w.quarantined, err) })
}
func (w *watcher) Followed(int) {}
func (w *watcher) HandedOver(_ time.Duration, done bool) {
	w.with(func() { w.handOvers = append(w.handOvers, done) })
}
func (w *watcher) Lost(n record.Offset) { w.with(func() { w.lost += int(n) }) }
func (w *watcher) LogFailed(err error)  { w.with(func() { w.failed = append(w.failed, err) }) }

func (w *watcher) with(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// env is a partition over a file system in memory that can fail.
type env struct {
	t       testing.TB
	mem     *memfs.FS
	fs      *faultfs.FS
	flusher *eager
	seen    *watcher
	limits  Limits
	config  commitlog.Config
	files   *commitlog.Files
	bootID  [16]byte
	rec     commitlog.Recovery
	p       *Partition
	self    replica.ID // 1 unless set
	propose func(replica.Proposal)
	auditor Auditor
	holds   []*held
}

func newEnv(t testing.TB) *env {
	mem := memfs.New()
	if err := mem.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mem.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	return &env{t: t, mem: mem, fs: faultfs.Wrap(mem), flusher: &eager{}, seen: &watcher{}, bootID: [16]byte{1}}
}

// on is an env on another file system: what a crash left.
func (e *env) on(mem *memfs.FS) *env {
	next := *e
	next.mem, next.fs, next.flusher, next.seen, next.p = mem, faultfs.Wrap(mem), &eager{}, &watcher{}, nil
	return &next
}

func (e *env) openOn(fsys vfs.FS) {
	e.t.Helper()
	log, rec, err := commitlog.Open(commitlog.Options{
		FS: fsys, Dir: logDir, ClusterID: [16]byte{2}, TopicID: record.TopicID{3}, Partition: 4, Config: e.config, BootID: e.bootID, Files: e.files,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.rec = rec
	var damage error
	if rec.Damaged != nil {
		damage = rec.Damaged
	}
	e.p = New(Options{
		Log: log, Damage: damage, Self: max(1, e.self), Flusher: e.flusher, Observer: e.seen, Limits: e.limits, Propose: e.propose, Auditor: e.auditor,
		Logger: slog.New(slog.DiscardHandler), Settings: Settings{MaxAheadMs: time.Hour.Milliseconds()},
	})
}

// lead opens the partition and leads it alone.
func (e *env) lead(epoch record.LeaderEpoch, d replica.Durability) {
	e.t.Helper()
	e.openOn(e.fs)
	if !e.p.Lead(alone(epoch, d)) {
		e.t.Fatal("does not lead")
	}
}

func alone(epoch record.LeaderEpoch, d replica.Durability) replica.Assignment {
	return replica.Assignment{Epoch: epoch, Replicas: []replica.ID{1}, InSync: []replica.ID{1}, MinInSync: 1, Durability: d}
}

// inBubble runs a test with fake time; the partition it leaves is closed.
func inBubble(t *testing.T, story func(t *testing.T, e *env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer func() {
			for _, h := range e.holds {
				h.letGo()
			}
			if e.p == nil {
				return
			}
			_ = e.p.Close() // some stories end with a failed disk
			e.flusher.running.Wait()
			if n := e.mem.OpenFiles(); n != 0 {
				t.Errorf("%d files are open after Close", n)
			}
		}()
		story(t, e)
	})
}

// answers collects completed requests in order.
type answers struct {
	mu   sync.Mutex
	done []*Request
}

func (a *answers) Complete(r *Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done = append(a.done, r)
}

func (a *answers) list() []*Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*Request(nil), a.done...)
}

// batch returns a request of n records with that text.
func batch(text string, n int) *Request {
	var b []byte
	for i := range n {
		b = record.AppendRecord(b, &record.Record{Value: fmt.Appendf(nil, "%s#%d", text, i)})
	}
	var v record.Validator
	s, err := v.Validate(record.Pieces{b}, record.Limits{})
	if err != nil {
		panic(err)
	}
	return &Request{Batch: record.Pieces{b}, Summary: s, Acks: AcksAll}
}

// send appends, and fails the test if the request is not admitted.
func (e *env) send(a *answers, r *Request) *Request {
	e.t.Helper()
	r.Done = a
	if err := e.p.Append(context.Background(), r); err != nil {
		e.t.Fatalf("not admitted: %v", err)
	}
	return r
}

// acked sends and waits for the acknowledgement.
func (e *env) acked(r *Request) *Request {
	e.t.Helper()
	a := &answers{}
	e.send(a, r)
	synctest.Wait()
	if len(a.list()) != 1 {
		e.t.Fatalf("%d answers", len(a.list()))
	}
	if r.Err != nil {
		e.t.Fatalf("not acknowledged: %v", r.Err)
	}
	return r
}

// texts reads everything that can be read, from an offset on, as texts by
// offset.
func (e *env) texts(from record.Offset) (map[record.Offset]string, error) {
	r := e.p.NewReader()
	defer r.Close()
	out := make(map[record.Offset]string)
	for {
		got, err := r.Read(from, 1<<20, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			return out, err
		}
		if len(got.Bytes) == 0 {
			return out, nil
		}
		for b := got.Bytes; len(b) > 0; {
			h, bytes, size, err := record.ParseLogBatch(b)
			if err != nil {
				return out, err
			}
			var it record.Iterator
			it.ResetLogBatch(&h, bytes)
			for it.Next() {
				if it.Offset() >= from {
					out[it.Offset()] = string(it.Record().Value)
				}
			}
			if it.Err() != nil {
				return out, it.Err()
			}
			b = b[size:]
		}
		from = got.Next
	}
}

// wantLog compares what can be read from the start with the texts.
func (e *env) wantLog(want ...string) {
	e.t.Helper()
	got, err := e.texts(e.p.State().LogStart)
	if err != nil {
		e.t.Fatal(err)
	}
	start := e.p.State().LogStart
	if len(got) != len(want) {
		e.t.Fatalf("%d records, want %d: %v", len(got), len(want), got)
	}
	for i, w := range want {
		if got[start+record.Offset(i)] != w {
			e.t.Fatalf("record %d is %q, want %q", i, got[start+record.Offset(i)], w)
		}
	}
}

// held makes calls of a kind on segments wait until it is released.
type held struct {
	mu      sync.Mutex
	seen    int
	release chan struct{}
	once    sync.Once
}

func (e *env) hold(op faultfs.Op) *held {
	h := &held{release: make(chan struct{})}
	e.fs.Add(&faultfs.Rule{Op: op, Path: "*.log", Times: -1, Hold: func(faultfs.Op, string) {
		h.mu.Lock()
		h.seen++
		h.mu.Unlock()
		<-h.release
	}})
	e.holds = append(e.holds, h)
	return h
}

// one lets one call go on, letGo all.
func (h *held) one()   { h.release <- struct{}{} }
func (h *held) letGo() { h.once.Do(func() { close(h.release) }) }

func (h *held) calls() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

func wantError[E error](t *testing.T, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("error is %v (%T), want %T", err, err, e)
	}
	return e
}

func mustBe[E error](t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[E](err); !ok {
		t.Fatalf("error is %v (%T), want %T", err, err, e)
	}
}
