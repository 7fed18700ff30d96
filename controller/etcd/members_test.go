package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/millstream-io/millstream/controller/store"
)

// peer returns the options of a controller among peers that find each other by
// sockets in the working directory.
func peer(t *testing.T, id int32, of ...int32) Options {
	t.Helper()
	o := Options{ID: id, Dir: t.TempDir(), Tick: 50 * time.Millisecond}
	for _, p := range of {
		o.Peers = append(o.Peers, Peer{ID: p, URL: socket(p)})
	}
	o.ListenPeers = socket(id)
	return o
}

func socket(id int32) string { return fmt.Sprintf("unix://c%d:1", id) }

// A controller is added without ever putting the quorum at risk, and one that
// is gone is replaced by it.
func TestAControllerIsAddedAndAnotherRemoved(t *testing.T) {
	t.Chdir(t.TempDir())
	first := peer(t, 0, 0)
	first.Serves = "c0.example.org:9653"
	m, ctx := open(t, first)
	put(ctx, t, m, "/a", "1", 0)
	key, err := m.AddLearner(ctx, socket(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.AddLearner(ctx, socket(2)); !retryable(err) {
		t.Errorf("two at a time: %v", err)
	}
	// It is not there yet, so it cannot have everything.
	short, cancel := context.WithTimeout(ctx, changePause/2)
	defer cancel()
	if err := m.Promote(short, key); err == nil {
		t.Error("one that never started has a vote")
	}
	o := peer(t, 1, 0, 1)
	o.Join, o.Logger, o.Serves = true, slog.New(slog.DiscardHandler), "[fd00::1]:9653"
	added, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := added.Close(); err != nil {
			t.Error(err)
		}
	}()
	serving(t, m, "c0.example.org:9653") // not one that may have nothing to tell
	if err := m.Promote(ctx, key); err != nil {
		t.Fatal(err)
	}
	serving(t, m, "[fd00::1]:9653", "c0.example.org:9653")
	serving(t, added, "[fd00::1]:9653", "c0.example.org:9653")
	if err := m.Promote(ctx, key); err == nil || retryable(err) {
		t.Errorf("promoted twice: %v", err)
	}
	members, err := m.Members(ctx)
	if err != nil || len(members) != 2 || members[0].ID != 0 || !members[0].Leading || members[1].ID != 1 || members[1].Learner || members[1].URL != socket(1) {
		t.Fatal(members, err)
	}
	if p, err := added.Range(ctx, store.Range{Prefix: "/a", Limit: 1}); err != nil || len(p.Entries) != 1 {
		t.Errorf("the one that was added has %v, %v", p, err)
	}
	if got := m.Others(); len(got) != 1 || got[0].Key != members[1].Key || got[0].ID != 1 || got[0].Serves != "[fd00::1]:9653" || got[0].URL != socket(1) {
		t.Errorf("the others are %+v", got)
	}
	if err := added.HandOverTo(ctx, members[1].Key); err != nil { // which it does not lead to
		t.Error(err)
	}
	if err := m.HandOverTo(ctx, members[1].Key); err != nil {
		t.Fatal(err)
	}
	if _, leading := added.Leadership(); !leading {
		t.Error("it was handed over to the other, who does not lead")
	}
	if err := added.HandOverTo(ctx, members[0].Key); err != nil {
		t.Fatal(err)
	}
	// The first hands over, and goes.
	if ok, err := m.HandOver(ctx); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, leading := m.Leadership(); leading {
		t.Error("it leads still")
	}
	if err := added.Remove(ctx, members[0].Key); err != nil {
		t.Fatal(err)
	}
	if err := added.Remove(ctx, members[0].Key); err == nil || retryable(err) {
		t.Errorf("removed twice: %v", err)
	}
	put(ctx, t, added, "/b", "2", 0)
	serving(t, added, "[fd00::1]:9653")
	if left, err := added.Members(ctx); err != nil || len(left) != 1 || left[0].ID != 1 {
		t.Error(left, err)
	}
}

// serving waits until a member knows where they serve brokers.
func serving(t *testing.T, m *Member, want ...string) {
	t.Helper()
	for begun := time.Now(); !slices.Equal(m.Serving(), want); {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("it knows of %v, want %v", m.Serving(), want)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func retryable(err error) bool {
	e, ok := errors.AsType[*store.MembershipError](err)
	return ok && e.Retryable
}

// overfill writes until a store is full.
func overfill(ctx context.Context, t *testing.T, m *Member) {
	t.Helper()
	value := make([]byte, 128<<10)
	// The size is known when a batch is committed, ten times a second: on a quick
	// disk many fit in between.
	for range 2000 {
		if _, _, err := m.Txn(ctx, store.Txn{Ops: []store.Op{{Key: "/a", Value: value}}}); err != nil {
			for !m.alarmed(pb.AlarmType_NOSPACE) { // the alarm comes a moment after the refusal
				rest(ctx, t)
			}
			return
		}
	}
	t.Fatal("the store takes more than its quota")
}

// A store that ran full takes changes again without anybody's help, once what
// filled it is not needed any more.
func TestAFullStoreHelpsItself(t *testing.T) {
	o := dev(t.TempDir())
	o.quota = 4 << 20
	m, ctx := open(t, o)
	overfill(ctx, t, m)
	if err := m.Room(); !errors.Is(err, store.ErrFull) {
		t.Errorf("in a full store there is room: %v", err)
	}
	before := m.StoredBytes()
	if err := m.maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if after := m.StoredBytes(); after >= before/2 {
		t.Errorf("%d bytes of %d are left", after, before)
	}
	if m.alarmed(pb.AlarmType_NOSPACE) {
		t.Error("it is said to be full")
	}
	if _, held, err := m.Txn(ctx, store.Txn{Ops: []store.Op{{Key: "/b", Value: []byte("1")}}}); err != nil || !held {
		t.Errorf("a change afterwards: %v, %v", held, err)
	}
	if m.Corrupt() || m.Room() != nil {
		t.Errorf("it is said to be corrupt, %v, or without room, %v", m.Corrupt(), m.Room())
	}
	p, err := m.Range(ctx, store.Range{Prefix: "/", Limit: 10})
	if err != nil || len(p.Entries) != 2 {
		t.Errorf("left are %d entries, %v", len(p.Entries), err)
	}
}

// A controller that ran full and is gone does not hold up the others for good.
func TestTheAlarmOfAControllerThatIsGoneEnds(t *testing.T) {
	m, ctx := open(t, dev(t.TempDir()))
	_, err := m.etcd.Server.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 4711, Alarm: pb.AlarmType_NOSPACE})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Txn(ctx, store.Txn{Ops: []store.Op{{Key: "/b", Value: []byte("1")}}}); !errors.Is(err, store.ErrFull) {
		t.Fatalf("a change while one is full: %v", err)
	}
	if err := m.maintain(ctx); err != nil {
		t.Fatal(err)
	}
	put(ctx, t, m, "/b", "1", 0)
}

// Nor do three of them, all full: each leads in turn when it is another's.
func TestThreeFullStoresHelpThemselves(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	members, _ := three(ctx, t, 4<<20)
	overfill(ctx, t, members[0])
	for looks := 1; ; looks++ {
		for _, m := range members {
			if err := m.maintain(ctx); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := members[0].Txn(ctx, store.Txn{Ops: []store.Op{{Key: "/b", Value: []byte("1")}}})
		if err == nil {
			return
		}
		if !errors.Is(err, store.ErrFull) || looks == 5 {
			t.Fatalf("after %d looks: %v", looks, err)
		}
	}
}
