package etcd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/schema"

	"github.com/millstream-io/millstream/controller/store"
)

// alter changes a value in the store of one member, as a disk may.
func alter(t *testing.T, m *Member, from, to string) {
	t.Helper()
	tx := m.etcd.Server.Backend().BatchTx()
	tx.LockOutsideApply()
	var key, value []byte
	err := tx.UnsafeForEach(schema.Key, func(k, v []byte) error {
		if bytes.Contains(v, []byte(from)) {
			key, value = bytes.Clone(k), bytes.Replace(v, []byte(from), []byte(to), 1)
		}
		return nil
	})
	if err == nil && key != nil {
		tx.UnsafePut(schema.Key, key, value)
	}
	tx.Unlock()
	m.etcd.Server.Backend().ForceCommit()
	if err != nil || key == nil {
		t.Fatalf("%q is not in the store: %v", from, err)
	}
}

// three opens three members that are one quorum, the one that leads first.
func three(ctx context.Context, t *testing.T, quota int64) ([]*Member, []Options) {
	t.Helper()
	var options []Options
	for id := range int32(3) {
		o := peer(t, id, 0, 1, 2)
		o.quota = quota
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		options = append(options, o)
	}
	members := start(t, options)
	for _, m := range members {
		await(ctx, t, m)
	}
	for i, m := range members {
		if _, leading := m.Leadership(); leading {
			members[0], members[i] = members[i], members[0]
			options[0], options[i] = options[i], options[0]
			return members, options
		}
	}
	t.Fatal("nobody leads")
	return nil, nil
}

// found has the members compare their stores, as they do each minute after a
// compaction, until it is known which one differs. At the first time one of them
// may not have compacted yet, and then nobody knows.
func found(ctx context.Context, t *testing.T, leader *Member) {
	t.Helper()
	if err := leader.compact(ctx); err != nil {
		t.Fatal(err)
	}
	named := func(a *pb.AlarmMember) bool { return a.GetAlarm() == pb.AlarmType_CORRUPT && a.GetMemberID() != 0 }
	for !slices.ContainsFunc(leader.etcd.Server.Alarms(), named) {
		leader.etcd.Server.CorruptionChecker().CompactHashCheck()
		rest(ctx, t)
	}
}

func rest(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal("it takes too long")
	case <-time.After(20 * time.Millisecond):
	}
}

// One store of three that differs stops nobody for long: its member loses its
// vote and stops, and the others go on. This one leads, so that another has to take
// over first.
func TestAMemberWhoseStoreDiffersIsTakenOut(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience) // etcd waits for 5 s without a change before it removes anybody
	defer cancel()
	members, _ := three(ctx, t, 0)
	wrong, right := members[0], members[1:]
	for i := range 10 {
		put(ctx, t, wrong, fmt.Sprintf("/a/%d", i), fmt.Sprintf("value %d", i), 0)
	}
	for _, m := range right {
		for m.etcd.Server.KV().Rev() != wrong.etcd.Server.KV().Rev() {
			rest(ctx, t)
		}
	}
	alter(t, wrong, "value 3", "valve 3")
	found(ctx, t, wrong)
	for !right[0].Corrupt() {
		rest(ctx, t)
	}
	if _, _, err := right[0].Txn(ctx, store.Txn{Ops: []store.Op{{Key: "/b", Value: []byte("1")}}}); err == nil {
		t.Fatal("a change is taken while nobody knows which store is right")
	}
	stopped := false
	for !stopped || right[0].Corrupt() || right[1].Corrupt() {
		for _, m := range right {
			m.takeOutCorrupt(ctx)
		}
		select {
		case <-wrong.Failed():
			stopped = true
		default:
			wrong.takeOutCorrupt(ctx)
		}
		rest(ctx, t)
	}
	put(ctx, t, right[0], "/b", "1", 0)
	infos, err := right[1].Members(ctx)
	if err != nil || len(infos) != 2 {
		t.Errorf("members %+v, %v", infos, err)
	}
	page, err := right[0].Range(ctx, store.Range{Prefix: "/a/3", Limit: 1})
	if err != nil || len(page.Entries) != 1 || string(page.Entries[0].Value) != "value 3" {
		t.Errorf("left is %+v, %v", page, err)
	}
}

// A member whose store differs from the others' does not start.
func TestAMemberWhoseStoreDiffersDoesNotStart(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	members, options := three(ctx, t, 0)
	put(ctx, t, members[0], "/a", "value", 0)
	for members[2].etcd.Server.KV().Rev() != members[0].etcd.Server.KV().Rev() {
		rest(ctx, t)
	}
	alter(t, members[2], "value", "valve")
	if err := members[2].Close(); err != nil {
		t.Fatal(err)
	}
	m, err := Open(options[2])
	if err == nil {
		err = m.Close()
		t.Fatalf("it starts: %v", err)
	}
	if !strings.Contains(err.Error(), "compare the metadata store") {
		t.Error(err)
	}
}

// What is done for the store itself is no change of what is in it: brokers would
// wait for what they are never told of.
func TestUpkeepIsNoChange(t *testing.T) {
	m, ctx := open(t, dev(t.TempDir()))
	rev := put(ctx, t, m, "/a", "1", 0)
	for range 2 {
		if err := m.defragment(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if page, err := m.Range(ctx, store.Range{Prefix: "/a", Limit: 1}); err != nil || page.Revision != rev {
		t.Errorf("after revision %d there is %d, %v", rev, page.Revision, err)
	}
}
