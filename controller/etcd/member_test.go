package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/controller/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *Member {
	t.Helper()
	m, err := Open(Options{Dir: dir, Tick: 10 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
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
		if _, leading := m.Leadership(); leading {
			return m
		}
		<-changed
	}
}

func TestStart(t *testing.T) {
	start := time.Now()
	m := open(t, t.TempDir())
	t.Logf("leads after %v", time.Since(start))
	_, held, err := m.Txn(t.Context(), store.Txn{Ops: []store.Op{{Key: "/a", Value: []byte("1")}}})
	if err != nil || !held {
		t.Fatal(held, err)
	}
	t.Logf("written after %v", time.Since(start))
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = m.Watch(ctx, "/", 1, func(es []store.Event) error {
		n += len(es)
		cancel()
		return nil
	})
	if n != 1 || !errors.Is(err, context.Canceled) {
		t.Error(n, err)
	}
	for i := range 3 {
		start = time.Now()
		ops := []store.Op{}
		for j := range 120 {
			ops = append(ops, store.Op{Key: fmt.Sprintf("/x/%d/%d", i, j), Value: make([]byte, 100)})
		}
		if _, _, err := m.Txn(t.Context(), store.Txn{Ops: ops}); err != nil {
			t.Fatal(err)
		}
		t.Logf("txn of 120: %v", time.Since(start))
	}
	start = time.Now()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("closed after %v", time.Since(start))
}
