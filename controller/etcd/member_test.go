package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/controller/store"
)

// TestMain fails if goroutines are left.
//
// WHY wait for them: a connection that one member dials while it or the other
// stops is nobody's, and is closed by the timeout of etcd's connections, 5 s.
func TestMain(m *testing.M) {
	if dir := os.Getenv(breakEnv); dir != "" {
		os.Exit(fillUp(dir))
	}
	code := m.Run()
	for begun := time.Now(); code == 0; {
		err := goleak.Find()
		if err == nil {
			break
		}
		if time.Since(begun) > patience {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// breakEnv has a process of its own, TestABrokenStoreSaysWhy's, fill the disk of
// the directory that it names.
const breakEnv = "TEST_BREAK_STORE_IN"

// patience bounds every wait: what a test waits for takes milliseconds.
const patience = 20 * time.Second

func open(t *testing.T, o Options) (*Member, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	for {
		changed := m.LeadershipChanged()
		if _, leading := m.Leadership(); leading && m.LeaderKnown() {
			return m, ctx
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("the only member does not lead")
		}
	}
}

func dev(dir string) Options { return Options{Dir: dir, Tick: 10 * time.Millisecond} }

func put(ctx context.Context, t *testing.T, m *Member, key, value string, after int64) int64 {
	t.Helper()
	rev, held, err := m.Txn(ctx, store.Txn{
		Compares: []store.Compare{{Key: key, Revision: after}}, Ops: []store.Op{{Key: key, Value: []byte(value)}},
	})
	if err != nil || !held {
		t.Fatalf("put %s: held %v, %v", key, held, err)
	}
	return rev
}

// What the store in memory, which other tests use, is to be like.
func TestTransactionsCompareAndChange(t *testing.T) {
	m, ctx := open(t, dev(t.TempDir()))
	rev := put(ctx, t, m, "/a/1", "one", 0)
	at, held, err := m.Txn(ctx, store.Txn{
		Compares: []store.Compare{{Key: "/a/1", Revision: 0}}, Ops: []store.Op{{Key: "/a/2", Value: []byte("two")}},
	})
	if held || err != nil || at != rev {
		t.Errorf("a comparison that does not hold: %v at %d, %v", held, at, err)
	}
	next := put(ctx, t, m, "/a/1", "uno", rev)
	if next != rev+1 {
		t.Errorf("revision %d follows %d", next, rev)
	}
	at, held, err = m.Txn(ctx, store.Txn{Ops: []store.Op{{Kind: store.OpDelete, Key: "/none"}}})
	if !held || err != nil || at != next {
		t.Errorf("a change of nothing makes revision %d after %d: %v, %v", at, next, held, err)
	}
	put(ctx, t, m, "/ab", "beside", 0)
	if _, _, err := m.Txn(ctx, store.Txn{Ops: []store.Op{{Kind: store.OpDeletePrefix, Key: "/a/"}}}); err != nil {
		t.Fatal(err)
	}
	if p, err := m.Range(ctx, store.Range{Prefix: "/", Limit: 10}); err != nil || len(p.Entries) != 1 || p.Entries[0].Key != "/ab" {
		t.Errorf("left are %+v, %v", p, err)
	}
}

func TestATransactionTakesAsManyOperationsAsPromised(t *testing.T) {
	m, ctx := open(t, dev(t.TempDir()))
	// The election key's comparison comes on top.
	full := store.Txn{Compares: []store.Compare{{Key: "/election", Revision: 0}}}
	for i := range store.MaxOps {
		k := fmt.Sprintf("/%03d", i)
		full.Compares = append(full.Compares, store.Compare{Key: k})
		full.Ops = append(full.Ops, store.Op{Key: k, Value: []byte("x")})
	}
	if _, held, err := m.Txn(ctx, full); !held || err != nil {
		t.Fatal(held, err)
	}
	var got []store.Entry
	for r := (store.Range{Prefix: "/", Limit: 50}); ; r.After = got[len(got)-1].Key {
		p, err := m.Range(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		got, r.Revision = append(got, p.Entries...), p.Revision
		if !p.More {
			break
		}
	}
	if len(got) != store.MaxOps || got[0].Key != "/000" || got[store.MaxOps-1].Key != "/126" {
		t.Errorf("%d entries in pages", len(got))
	}
}

func TestAWatchShowsWholeRevisionsFromWhereItIsAsked(t *testing.T) {
	m, ctx := open(t, dev(t.TempDir()))
	put(ctx, t, m, "/a", "0", 0)
	from, _, err := m.Txn(ctx, store.Txn{Ops: []store.Op{{Key: "/b", Value: []byte("1")}, {Key: "/c", Value: []byte("1")}}})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	var got []string
	err = m.Watch(ctx, "/", from, func(es []store.Event) error {
		for _, e := range es {
			got = append(got, fmt.Sprintf("%s=%s@%d %v", e.Key, e.Value, e.Revision-from, e.Deleted))
		}
		switch len(got) {
		case 2: // the first revision came whole; the rest comes while watched
			_, _, err := m.Txn(ctx, store.Txn{Ops: []store.Op{{Kind: store.OpDelete, Key: "/b"}}})
			return err
		case 3:
			return enough
		}
		return nil
	})
	want := "[/b=1@0 false /c=1@0 false /b=@1 true]"
	if !errors.Is(err, enough) || fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v; %v", got, want, err)
	}
	short, cancel := context.WithCancelCause(ctx)
	cancel(enough)
	if err := m.Watch(short, "/", from, func([]store.Event) error { return nil }); !errors.Is(err, enough) {
		t.Errorf("a watch whose context ends: %v", err)
	}
}

func TestARevisionOfThePastIsCompacted(t *testing.T) {
	m, ctx := open(t, dev(t.TempDir()))
	first := put(ctx, t, m, "/a", "1", 0)
	last := put(ctx, t, m, "/a", "2", first)
	if _, err := m.client.Compact(ctx, last); err != nil {
		t.Fatal(err)
	}
	err := m.Watch(ctx, "/", first, func([]store.Event) error { return nil })
	if e, ok := errors.AsType[*store.CompactedError](err); !ok || e.Asked != first || e.Oldest != last {
		t.Errorf("a watch: %v", err)
	}
	_, err = m.Range(ctx, store.Range{Prefix: "/", Limit: 1, Revision: first})
	if _, ok := errors.AsType[*store.CompactedError](err); !ok {
		t.Errorf("a read: %v", err)
	}
}

func TestAStoreIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	m, ctx := open(t, Options{Dir: dir}) // with the ticks of production
	rev := put(ctx, t, m, "/a", "1", 0)
	if _, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("two members have one directory")
	} else if e, ok := errors.AsType[*InUseError](err); !ok || e.Dir != dir {
		t.Errorf("a second member: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Txn(ctx, store.Txn{Ops: []store.Op{{Key: "/b"}}}); err == nil {
		t.Error("a closed store takes a change")
	}
	m, ctx = open(t, dev(dir))
	if next := put(ctx, t, m, "/a", "2", rev); next != rev+1 {
		t.Errorf("revision %d follows %d", next, rev)
	}
	if m.StoredBytes() <= 0 {
		t.Error("the store takes no space")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	l := slog.New(slog.DiscardHandler)
	for name, o := range map[string]Options{
		"no directory":            {Logger: l},
		"no logger":               {Dir: "x"},
		"a negative id":           {Dir: "x", Logger: l, ID: -1},
		"peers and no address":    {Dir: "x", Logger: l, Peers: []Peer{{ID: 0}}},
		"peers without this one":  {Dir: "x", Logger: l, Peers: []Peer{{ID: 1}}, ListenPeers: "http://127.0.0.1:0"},
		"an address that is none": {Dir: t.TempDir(), Logger: l, Peers: []Peer{{URL: "http://a b:c"}}, ListenPeers: "http://127.0.0.1:0"},
	} {
		if m, err := Open(o); err == nil {
			t.Errorf("%s: accepted", name)
			_ = m.Close()
		}
	}
}

// What the store writes and syncs is counted.
func TestTheDiskIsMeasured(t *testing.T) {
	m, ctx := open(t, Options{ID: 0, Dir: t.TempDir()})
	before, err := DiskCalls()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		put(ctx, t, m, fmt.Sprint("/", i), "1", 0)
	}
	now, err := DiskCalls()
	if err != nil {
		t.Fatal(err)
	}
	// A write and a sync of the log for each.
	if c := now.Since(before); c.Count < 40 || c.Seconds <= 0 || c.Squares <= 0 {
		t.Errorf("it has counted %+v", c)
	}
}
