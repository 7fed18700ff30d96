package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/controller/store"
)

// restored is contents of three entries at a revision that no store reaches by
// itself.
func restored(identity string) Contents {
	c := Contents{Revision: 5_000_000_000, Identity: identity}
	for i := range 3 {
		c.Entries = append(c.Entries, store.Entry{Key: fmt.Sprintf("/a/%d", i), Value: fmt.Append(nil, identity, i)})
	}
	return c
}

func restore(t *testing.T, o Options, c Contents) Options {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := Restore(o, c); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestARestoredStoreBeginsWithItsContents(t *testing.T) {
	c := restored("x")
	o := restore(t, dev(t.TempDir()), c)
	for range 2 { // a restart changes nothing
		m, ctx := open(t, o)
		p, err := m.Range(ctx, store.Range{Prefix: "/", Limit: 10})
		if err != nil || len(p.Entries) != len(c.Entries) || p.Revision < c.Revision {
			t.Fatalf("it has %+v, %v", p, err)
		}
		for i, e := range p.Entries {
			if e.Key != c.Entries[i].Key || string(e.Value) != string(c.Entries[i].Value) || e.Revision != c.Revision {
				t.Errorf("entry %d is %+v", i, e)
			}
		}
		_, err = m.Range(ctx, store.Range{Prefix: "/", Limit: 10, Revision: c.Revision - 1})
		if _, ok := errors.AsType[*store.CompactedError](err); !ok {
			t.Errorf("a read of what was before: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m, ctx := open(t, o)
	if rev := put(ctx, t, m, "/b", "1", 0); rev != c.Revision+1 {
		t.Errorf("the first change has revision %d", rev)
	}
	put(ctx, t, m, "/a/0", "2", c.Revision)
	if err := m.compact(ctx); err != nil {
		t.Fatal(err)
	}
	if p, err := m.Range(ctx, store.Range{Prefix: "/a/", Limit: 10}); err != nil || len(p.Entries) != 3 {
		t.Errorf("after a compaction it has %+v, %v", p, err)
	}
}

func TestADirectoryInUseIsNotRestoredTo(t *testing.T) {
	o := restore(t, dev(t.TempDir()), restored("x"))
	err := Restore(o, restored("y"))
	if e, ok := errors.AsType[*NotEmptyError](err); !ok || e.Dir != o.Dir {
		t.Errorf("a second restore: %v", err)
	}
	// What an interrupted one leaves is not taken for a store, nor written over.
	half := dev(t.TempDir())
	half.Logger = o.Logger
	if err := os.Mkdir(filepath.Join(half.Dir, restoring), dirPerm); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*NotEmptyError](Restore(half, restored("x"))); !ok {
		t.Error("what another left is restored over")
	}
	m, err := Open(half)
	if e, ok := errors.AsType[*InterruptedError](err); !ok || e.Dir != half.Dir {
		t.Errorf("half a store is opened: %v, %v", m, err)
	}
}

// Each controller is restored by itself, and they are one quorum; one that was
// restored to something else is no part of it.
func TestThreeRestoredStoresAreOneQuorum(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var options []Options
	for id := range int32(3) {
		c := restored("x")
		if id == 2 {
			c = restored("y")
		}
		options = append(options, restore(t, peer(t, id, 0, 1, 2), c))
	}
	members := start(t, options)
	first := members[0]
	for _, m := range members[:2] {
		await(ctx, t, m)
	}
	rev, held, err := first.Txn(ctx, store.Txn{Ops: []store.Op{{Key: "/b", Value: []byte("1")}}})
	if err != nil || !held || rev != restored("x").Revision+1 {
		t.Fatalf("the first change: revision %d, %v, %v", rev, held, err)
	}
	if p, err := members[1].Range(ctx, store.Range{Prefix: "/", Limit: 10}); err != nil || len(p.Entries) != 4 || first.Corrupt() {
		t.Errorf("the other has %+v, %v; corrupt %v", p, err, first.Corrupt())
	}
	if members[2].LeaderKnown() {
		t.Error("one that was restored to something else is among them")
	}
	infos, err := first.Members(ctx)
	if err != nil || !slices.EqualFunc(infos, []int32{0, 1, 2}, func(i store.Member, id int32) bool { return i.ID == id && !i.Learner }) {
		t.Errorf("members %+v, %v", infos, err)
	}
}

// start opens members at once, as each waits for the others.
func start(t *testing.T, options []Options) []*Member {
	t.Helper()
	members := make([]*Member, len(options))
	var wg sync.WaitGroup
	for i, o := range options {
		wg.Go(func() {
			m, err := Open(o)
			if err != nil {
				t.Error(err)
				return
			}
			members[i] = m
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, m := range members {
			if m != nil {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return members
}

func await(ctx context.Context, t *testing.T, m *Member) {
	t.Helper()
	for !m.LeaderKnown() {
		select {
		case <-m.LeadershipChanged():
		case <-time.After(changePause):
		case <-ctx.Done():
			t.Fatal("nobody leads")
		}
	}
}
