package backup_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/backup"
	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/store"
)

var (
	made      = time.UnixMilli(1_700_000_000_123)
	orders    = store.TopicID{1}
	beginning = store.TopicID{2}
)

// full returns a store with one key of each kind.
func full(t testing.TB) *controllertest.MemStore {
	t.Helper()
	kv := controllertest.NewMemStore()
	w, err := store.Campaign(t.Context(), kv, 1, 7)
	if err != nil {
		t.Fatal(err)
	}
	id := bytes.Repeat([]byte{9}, 16)
	broker := &controllerv1.BrokerRecord{BrokerId: 3, BrokerEpoch: 2, DirectoryId: id, Draining: true, Stopping: true}
	e := new(store.Edit).Put(store.ClusterKey, &controllerv1.ClusterRecord{ClusterId: id, Generation: 4, FeatureLevel: 1}).
		Put(store.BrokerKey(3), broker).Put(store.ServedKey(3, store.DirectoryID(id)), broker).
		Put(store.DeletionKey(store.TopicID{5}), &controllerv1.DeletionRecord{TopicId: id, ClusterGeneration: 4}).
		Put(store.RequestKey(store.RequestID{6}), &controllerv1.DeleteTopicResponse{})
	for topic, kind := range map[store.TopicID]func(store.TopicID) store.Key{orders: store.TopicKey, beginning: store.IntentKey} {
		rec := &controllerv1.TopicRecord{TopicId: topic[:], Topic: fmt.Sprint("t", topic[0]), PartitionCount: 1, ReplicationFactor: 2, Config: map[string]string{
			"retention.ms": "1", "segment.ms": "2", "durability": "DISK", "min.insync.replicas": "2", "segment.bytes": "9",
		}}
		e.Put(kind(topic), rec).Put(store.NameKey(rec.GetTopic()), &controllerv1.TopicRecord{TopicId: topic[:]}).
			Put(store.PartitionKey(topic, 0), &controllerv1.PartitionRecord{
				TopicId: topic[:], Leader: 3, LeaderEpoch: 12, PartitionEpoch: 5, Replicas: []int32{3, 1, 2}, TargetReplicas: []int32{1, 2},
				InSyncReplicas: []int32{3}, EligibleLeaderReplicas: []int32{1}, LastKnown: []int32{2}, MinInsyncReplicas: 2, Disk: true, Successor: new(int32(1)),
			})
	}
	if _, err := w.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return kv
}

func write(t testing.TB, kv store.KV) []byte {
	t.Helper()
	var file []byte
	err := backup.Write(t.Context(), kv, made, "v1", func(piece []byte) error {
		file = append(file, piece...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file []byte) *backup.Backup {
	t.Helper()
	b, err := backup.Read(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestABackupHasEverythingButTheElection(t *testing.T) {
	kv := full(t)
	b := read(t, write(t, kv))
	if !bytes.Equal(b.ClusterID, bytes.Repeat([]byte{9}, 16)) || b.Generation != 4 || !b.Time.Equal(made) || b.Version != "v1" || b.Revision < 3 {
		t.Errorf("it says of itself %+v", b)
	}
	want := kv.Entries()
	if len(b.Entries) != len(want)-1 {
		t.Fatalf("it has %d entries of %d", len(b.Entries), len(want))
	}
	at := 0
	for _, e := range want {
		if e.Key == store.ElectionKey.String() {
			continue
		}
		if !reflect.DeepEqual(b.Entries[at], e) {
			t.Errorf("%s is %+v", e.Key, b.Entries[at])
		}
		at++
	}
}

func TestALargeBackupComesInPieces(t *testing.T) {
	kv := full(t)
	value, err := proto.Marshal(&controllerv1.DeletionRecord{Topic: strings.Repeat("x", 10_000)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2_500 { // more than a page
		k := store.DeletionKey(store.TopicID{77, byte(i >> 8), byte(i)}).String()
		if _, _, err := kv.Txn(t.Context(), store.Txn{Ops: []store.Op{{Key: k, Value: value}}}); err != nil {
			t.Fatal(err)
		}
	}
	var file []byte
	err = backup.Write(t.Context(), kv, made, "", func(piece []byte) error {
		if len(piece) == 0 || len(piece) > 256<<10 {
			return fmt.Errorf("a piece of %d bytes", len(piece))
		}
		file = append(file, piece...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b := read(t, file); len(b.Entries) != len(kv.Entries())-1 {
		t.Errorf("it has %d entries", len(b.Entries))
	}
	stop := errors.New("stop")
	if err := backup.Write(t.Context(), kv, made, "", func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the receiver's error: %v", err)
	}
}

func TestAnEmptyStoreHasNoBackup(t *testing.T) {
	err := backup.Write(t.Context(), controllertest.NewMemStore(), made, "", func([]byte) error { return nil })
	if !errors.Is(err, backup.ErrNoCluster) {
		t.Error(err)
	}
}

// Whatever is missing at the end, and whichever bit differs, the file is
// refused.
func TestADamagedBackupIsRefused(t *testing.T) {
	file := write(t, full(t))
	for n := range file {
		b, err := backup.Read(bytes.NewReader(file[:n]))
		_, format := errors.AsType[*backup.FormatError](err)
		if b != nil || !format && !errors.Is(err, backup.ErrTorn) {
			t.Fatalf("the first %d bytes of %d: %v", n, len(file), err)
		}
	}
	for bit := range 8 * len(file) {
		broken := bytes.Clone(file)
		broken[bit/8] ^= 1 << (bit % 8)
		if _, err := backup.Read(bytes.NewReader(broken)); err == nil {
			t.Fatalf("accepted with bit %d of byte %d turned", bit%8, bit/8)
		}
	}
	for name, more := range map[string][]byte{"a byte": {0}, "itself": file} {
		if _, err := backup.Read(bytes.NewReader(append(bytes.Clone(file), more...))); err == nil {
			t.Errorf("accepted with %s behind it", name)
		}
	}
}

func TestABackupOfAnotherVersionIsRefused(t *testing.T) {
	header, err := proto.Marshal(&controllerv1.BackupHeader{
		Format: "millstream backup", FormatVersion: 2, ClusterId: make([]byte, 16), ClusterGeneration: 1, Revision: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), header)
	sum := sha256.Sum256(file)
	trailer, err := proto.Marshal(&controllerv1.BackupTrailer{Sha256: sum[:]})
	if err != nil {
		t.Fatal(err)
	}
	file = protowire.AppendBytes(protowire.AppendTag(file, 3, protowire.BytesType), trailer)
	_, err = backup.Read(bytes.NewReader(file))
	if e, ok := errors.AsType[*backup.VersionError](err); !ok || e.Version != 2 {
		t.Error(err)
	}
}

func decoded(t *testing.T, r *backup.Restored) map[store.Key]proto.Message {
	t.Helper()
	values := map[store.Key]proto.Message{}
	for _, e := range r.Entries {
		if e.Revision != r.Revision {
			t.Errorf("%s has revision %d, not %d", e.Key, e.Revision, r.Revision)
		}
		c, err := store.Decode(store.Event{Entry: e})
		if err != nil {
			t.Fatal(err)
		}
		values[c.Key] = c.Value
	}
	return values
}

func TestWhatIsRestoredIsHarmless(t *testing.T) {
	b := read(t, write(t, full(t)))
	r, err := b.Restore(6)
	if err != nil {
		t.Fatal(err)
	}
	got := decoded(t, r)
	if r.Revision != b.Revision+2<<32 || r.Generation != 6 {
		t.Errorf("generation %d at revision %d after %d", r.Generation, r.Revision, b.Revision)
	}
	if c, _ := got[store.ClusterKey].(*controllerv1.ClusterRecord); c.GetGeneration() != 6 || c.GetFeatureLevel() != 1 {
		t.Errorf("the cluster is %v", c)
	}
	if k, _ := got[store.BrokerKey(3)].(*controllerv1.BrokerRecord); !k.GetFenced() || k.GetStopping() || !k.GetDraining() || k.GetBrokerEpoch() != r.Revision {
		t.Errorf("the broker is %v", k)
	}
	served, _ := got[store.ServedKey(3, store.DirectoryID(bytes.Repeat([]byte{9}, 16)))].(*controllerv1.BrokerRecord)
	if served.GetBrokerEpoch() != 2 {
		t.Errorf("who was unfenced is %v", served)
	}
	p, _ := got[store.PartitionKey(orders, 0)].(*controllerv1.PartitionRecord)
	want := &controllerv1.PartitionRecord{
		TopicId: orders[:], Leader: -1, LeaderEpoch: 12 + 2<<16, PartitionEpoch: 6, Replicas: []int32{3, 1, 2}, TargetReplicas: []int32{1, 2},
		LastKnown: []int32{3, 1, 2}, MinInsyncReplicas: 2, Disk: true, FromBackup: true, AwaitedLogs: 2,
	}
	if !proto.Equal(p, want) {
		t.Errorf("the partition is %v", p)
	}
	if topic, _ := got[store.TopicKey(orders)].(*controllerv1.TopicRecord); !topic.GetFromBackup() || topic.GetConfig()["durability"] != "DISK" {
		t.Errorf("the topic is %v", topic)
	}
	for _, gone := range []store.Key{store.ElectionKey, store.IntentKey(beginning), store.NameKey("t2"), store.PartitionKey(beginning, 0)} {
		if _, ok := got[gone]; ok {
			t.Errorf("%s is there", gone)
		}
	}
	if got[store.NameKey("t1")] == nil || got[store.DeletionKey(store.TopicID{5})] == nil || got[store.RequestKey(store.RequestID{6})] == nil {
		t.Error("a name, a deletion or an answer is gone")
	}
}

// Each controller is restored by itself: all must come to the same, and to
// another than from another file or of another generation.
func TestRestoringTwiceComesToTheSame(t *testing.T) {
	file := write(t, full(t))
	first, err := read(t, file).Restore(5)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // maps have another order each time
		again, err := read(t, file).Restore(5)
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Fatalf("another time: %v", err)
		}
	}
	other, err := read(t, file).Restore(6)
	if err != nil || other.Identity == first.Identity || other.Revision == first.Revision {
		t.Errorf("another generation: %+v, %v", other, err)
	}
	for _, g := range []uint32{0, 4, backup.MaxGeneration + 1} {
		if _, err := read(t, file).Restore(g); err == nil {
			t.Errorf("generation %d after 4", g)
		} else if e, ok := errors.AsType[*backup.GenerationError](err); !ok || e.Asked != g || e.Backup != 4 {
			t.Error(err)
		}
	}
}
