package store_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/store"
)

func drawKey(t *rapid.T) store.Key {
	id := func(label string) [16]byte {
		return [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		return store.ElectionKey
	case 1:
		return store.ClusterKey
	case 2:
		return store.BrokerKey(rapid.Int32Min(0).Draw(t, "broker"))
	case 3:
		return store.ServedKey(rapid.Int32Min(0).Draw(t, "broker"), id("directory"))
	case 4:
		return store.TopicKey(id("topic"))
	case 5:
		return store.NameKey(rapid.StringMatching(`[a-zA-Z0-9._-]{1,249}`).Draw(t, "name"))
	case 6:
		return store.IntentKey(id("topic"))
	case 7:
		return store.PartitionKey(id("topic"), rapid.Uint32Range(0, 99_999).Draw(t, "partition"))
	case 8:
		return store.DeletionKey(id("topic"))
	default:
		return store.RequestKey(id("request"))
	}
}

func TestKeysParseAsTheyPrint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := drawKey(t)
		got, err := store.ParseKey(k.String())
		if err != nil || got != k {
			t.Fatalf("%q parses as %+v, %v", k, got, err)
		}
	})
}

func TestForeignKeysAreRefused(t *testing.T) {
	for _, k := range []string{
		"", "/", "/millstream/", "/millstream/nothing", "/millstream/topics", "/millstream/topics/xyz", "/other/cluster",
		"/millstream/cluster/", "/millstream/cluster/x", "/millstream/brokers/1", "/millstream/brokers/-000000001",
		"/millstream/partitions/000102030405060708090a0b0c0d0e0f/1", "/millstream/topics/000102030405060708090A0B0C0D0E0F",
		"/millstream/brokers/0000000001/x", "/millstream/names/",
	} {
		if got, err := store.ParseKey(k); err == nil {
			t.Errorf("%q parses as %+v", k, got)
		}
	}
}

func TestOnlyTheActiveWrites(t *testing.T) {
	ctx := t.Context()
	kv := controllertest.NewMemStore()
	first, err := store.Campaign(ctx, kv, 1, 5)
	if err != nil {
		t.Fatal(err)
	}
	key := store.BrokerKey(7)
	put := func(w *store.Writer, rev int64) (int64, error) {
		return w.Commit(ctx, new(store.Edit).Expect(key, rev).Put(key, &controllerv1.BrokerRecord{BrokerId: 7}))
	}
	rev, err := put(first, 0)
	if err != nil {
		t.Fatal(err)
	}
	// What it read is old by now.
	if _, err := put(first, 0); !errors.Is(err, store.ErrDeposed) {
		t.Errorf("a write on an old read: %v", err)
	}
	// Controller 2 leads term 6: nothing of controller 1 counts from here on.
	second, err := store.Campaign(ctx, kv, 2, 6)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(first, rev); !errors.Is(err, store.ErrDeposed) {
		t.Errorf("a deposed controller writes: %v", err)
	}
	if _, err := first.Renew(ctx, 7); !errors.Is(err, store.ErrDeposed) {
		t.Errorf("a deposed controller goes on: %v", err)
	}
	if _, err := put(second, rev); err != nil {
		t.Errorf("the active controller cannot write: %v", err)
	}
	for _, c := range []struct {
		id   int32
		term uint64
	}{{1, 5}, {1, 6}, {2, 5}} {
		if _, err := store.Campaign(ctx, kv, c.id, c.term); !errors.Is(err, store.ErrDeposed) {
			t.Errorf("controller %d is elected in term %d, after 2 in 6: %v", c.id, c.term, err)
		}
	}
	// Controller 2 may campaign again in its term: its old right is void.
	if _, err := store.Campaign(ctx, kv, 2, 6); err != nil {
		t.Error(err)
	}
	if _, err := put(second, rev); !errors.Is(err, store.ErrDeposed) {
		t.Errorf("a right that was given up writes: %v", err)
	}
}

func TestErrorsOfACommit(t *testing.T) {
	kv := controllertest.NewMemStore()
	w, err := store.Campaign(t.Context(), kv, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for fault, want := range map[controllertest.Fault]error{
		controllertest.Lost: store.ErrUnknownOutcome, controllertest.Unheard: store.ErrUnknownOutcome, controllertest.Full: store.ErrFull,
	} {
		kv.Inject(func(int) controllertest.Fault { return fault })
		if _, err := w.Commit(t.Context(), new(store.Edit).Delete(store.ClusterKey)); !errors.Is(err, want) {
			t.Errorf("fault %d: %v, want %v", fault, err, want)
		}
	}
}

func TestAnEditHasRoomForWhatFits(t *testing.T) {
	kv := controllertest.NewMemStore()
	w, err := store.Campaign(context.Background(), kv, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	e := new(store.Edit)
	for i := uint32(0); e.Room(1); i++ {
		k := store.PartitionKey(store.TopicID{1}, i)
		e.Expect(k, 0).Put(k, &controllerv1.PartitionRecord{Partition: i})
	}
	if e.Len() != store.MaxOps {
		t.Errorf("an edit takes %d operations, not %d", e.Len(), store.MaxOps)
	}
	if _, err := w.Commit(t.Context(), e); err != nil {
		t.Error(err)
	}
}

func TestReadersFillInRevisions(t *testing.T) {
	kv := controllertest.NewMemStore()
	w, err := store.Campaign(t.Context(), kv, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	topic, request := store.TopicID{1}, store.RequestID{2}
	rev, err := w.Commit(t.Context(), new(store.Edit).
		Put(store.BrokerKey(7), &controllerv1.BrokerRecord{BrokerId: 7}).
		Put(store.BrokerKey(8), &controllerv1.BrokerRecord{BrokerId: 8, BrokerEpoch: 3}).
		Put(store.DeletionKey(topic), &controllerv1.DeletionRecord{TopicId: topic[:]}).
		Put(store.RequestKey(request), &controllerv1.CreateTopicResponse{Topic: &controllerv1.TopicRecord{Topic: "a"}}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[store.Key]proto.Message{
		store.BrokerKey(7):        &controllerv1.BrokerRecord{BrokerId: 7, BrokerEpoch: rev},
		store.BrokerKey(8):        &controllerv1.BrokerRecord{BrokerId: 8, BrokerEpoch: 3},
		store.DeletionKey(topic):  &controllerv1.DeletionRecord{TopicId: topic[:], Revision: rev},
		store.RequestKey(request): &controllerv1.CreateTopicResponse{Topic: &controllerv1.TopicRecord{Topic: "a"}, Revision: rev},
	}
	for _, e := range kv.Entries() {
		c, err := store.Decode(store.Event{Entry: e})
		if err != nil {
			t.Fatal(err)
		}
		if m := want[c.Key]; m != nil && !proto.Equal(m, c.Value) {
			t.Errorf("%s is %v, want %v", c.Key, c.Value, m)
		}
		if c.Key == store.ElectionKey && c.Active != w.Active() {
			t.Errorf("active is %+v, want %+v", c.Active, w.Active())
		}
	}
}

func TestDigestsTellRequestsApart(t *testing.T) {
	type request struct {
		kind, id, topic string
		numbers         []int64
		config          map[string]string
		names           []string
	}
	seen := map[store.RequestID]request{}
	for _, r := range []request{
		{"create", "1", "a", nil, nil, nil},
		{"delete", "1", "a", nil, nil, nil},
		{"create", "2", "a", nil, nil, nil},
		{"create", "1", "b", nil, nil, nil},
		{"create", "1a", "", nil, nil, nil},
		{"create", "1", "a", []int64{1}, nil, nil},
		{"create", "1", "a", []int64{1, 1}, nil, nil},
		{"create", "1", "a", []int64{11}, nil, nil},
		{"create", "1", "a", nil, map[string]string{"k": "v"}, nil},
		{"create", "1", "a", nil, map[string]string{"kv": ""}, nil},
		{"create", "1", "a", nil, nil, []string{"k", "v"}},
		{"create", "1", "a", nil, nil, []string{"kv"}},
	} {
		d := store.Digest(r.kind, r.id, r.topic, r.numbers, r.config, r.names)
		if other, same := seen[d]; same {
			t.Errorf("%+v and %+v have one digest", r, other)
		}
		seen[d] = r
	}
	a := store.Digest("x", "1", "a", nil, map[string]string{"k": "v", "l": "w", "m": "x"}, []string{"p", "q"})
	for range 10 {
		if b := store.Digest("x", "1", "a", nil, map[string]string{"m": "x", "l": "w", "k": "v"}, []string{"q", "p"}); a != b {
			t.Fatal("the order of a map matters")
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("/millstream/cluster", []byte("\x0a\x01a"))
	f.Add("/millstream/election", []byte("controller 1 term 2"))
	f.Add("/millstream/requests/000102030405060708090a0b0c0d0e0f", []byte("\x0a\x03a/b"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		c, err := store.Decode(store.Event{Entry: store.Entry{Key: key, Value: value, Revision: 5}})
		if err != nil {
			return
		}
		if c.Key.String() != key || c.Deleted() {
			t.Errorf("%q decodes as %+v", key, c)
		}
	})
}
