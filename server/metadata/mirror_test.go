package metadata

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

func tid(n byte) []byte { return append(make([]byte, 15), n) }

func topicChange(n byte, name string, partitions uint32, rev int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Revision: rev, Change: &controllerv1.MetadataChange_Topic{
		Topic: &controllerv1.TopicRecord{TopicId: tid(n), Topic: name, PartitionCount: partitions, ReplicationFactor: 1},
	}}
}

func partitionChange(n byte, partition uint32, leader, epoch int32, rev int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Revision: rev, Change: &controllerv1.MetadataChange_Partition{
		Partition: &controllerv1.PartitionRecord{
			TopicId: tid(n), Partition: partition, Leader: leader, LeaderEpoch: epoch, Replicas: []int32{leader},
			DirectoryIds: [][]byte{tid(9)}, InSyncReplicas: []int32{leader}, MinInsyncReplicas: 2, Disk: true,
		},
	}}
}

func deletionChange(n byte, name string, rev int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Revision: rev, Change: &controllerv1.MetadataChange_Deletion{
		Deletion: &controllerv1.DeletionRecord{TopicId: tid(n), Topic: name, ClusterGeneration: 1},
	}}
}

// snapshotOf is a whole snapshot in one frame.
func snapshotOf(rev int64, changes ...*controllerv1.MetadataChange) *controllerv1.WatchMetadataResponse {
	return &controllerv1.WatchMetadataResponse{
		SnapshotBegin: true, SnapshotEnd: true, Changes: changes, Revision: rev, ClusterGeneration: 1,
	}
}

func delta(rev int64, changes ...*controllerv1.MetadataChange) *controllerv1.WatchMetadataResponse {
	return &controllerv1.WatchMetadataResponse{Changes: changes, Revision: rev, ClusterGeneration: 1}
}

func apply(t *testing.T, m *Mirror, fs ...*controllerv1.WatchMetadataResponse) *Snapshot {
	t.Helper()
	for _, f := range fs {
		if err := m.Apply(f); err != nil {
			t.Fatal(err)
		}
	}
	return m.Current()
}

func TestSnapshotThenDeltas(t *testing.T) {
	m := New(Options{})
	first := apply(t, m, snapshotOf(5, topicChange(1, "a", 2, 3), partitionChange(1, 0, 7, 1, 3), partitionChange(1, 1, 8, 1, 4)))
	if first.Revision != 5 || first.TopicByName("a").Partition(1).Leader != 8 || first.TopicByName("a").Partition(2) != nil {
		t.Fatalf("snapshot is %+v", first)
	}
	second := apply(t, m, delta(6, partitionChange(1, 1, NoLeader, 2, 6)))
	if p := second.TopicByName("a").Partition(1); p.Leader != NoLeader || p.LeaderEpoch != 2 || p.Revision != 6 {
		t.Errorf("partition is %+v", p)
	}
	if second.TopicByID(TopicID(tid(1))).Partitions[0] != first.TopicByName("a").Partitions[0] {
		t.Error("a partition that did not change was copied")
	}
	if first.TopicByName("a").Partition(1).Leader != 8 {
		t.Error("a published snapshot changed")
	}
	select {
	case <-first.Superseded():
	default:
		t.Error("the first snapshot is not superseded")
	}
	select {
	case <-second.Superseded():
		t.Error("the current snapshot is superseded")
	default:
	}
}

func TestDeletionAndRecreationUnderTheSameName(t *testing.T) {
	m := New(Options{})
	apply(t, m, snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 7, 1, 3)))
	// Both changes come in one frame, as after a pause.
	s := apply(t, m, delta(8, deletionChange(1, "a", 6), topicChange(2, "a", 1, 8), partitionChange(2, 0, 7, 1, 8)))
	if s.TopicByID(TopicID(tid(1))) != nil || s.TopicByName("a").ID != TopicID(tid(2)) || s.TopicCount() != 1 {
		t.Error("the old topic is not gone or the new one not there")
	}
	if d := s.Deletion(TopicID(tid(1))); d == nil || d.Revision != 6 || d.Generation != 1 {
		t.Errorf("deletion is %+v", d)
	}
	s = apply(t, m, delta(9, &controllerv1.MetadataChange{Revision: 9, Change: &controllerv1.MetadataChange_ForgottenDeletion{ForgottenDeletion: tid(1)}}))
	if s.Deletion(TopicID(tid(1))) != nil {
		t.Error("a forgotten deletion is remembered")
	}
}

func TestPiecesBecomeVisibleTogether(t *testing.T) {
	m := New(Options{})
	apply(t, m, snapshotOf(5))
	part := delta(0, topicChange(1, "big", 2, 6), partitionChange(1, 0, 7, 1, 6))
	if s := apply(t, m, part); s.Revision != 5 || s.TopicByName("big") != nil {
		t.Error("half a revision is visible")
	}
	if s := apply(t, m, delta(6, partitionChange(1, 1, 7, 1, 6))); s.Revision != 6 || len(s.TopicByName("big").Partitions) != 2 {
		t.Error("the revision is not visible")
	}
}

func TestResyncDropsWhatIsGone(t *testing.T) {
	m := New(Options{})
	apply(t, m, snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 7, 1, 3)))
	begin := snapshotOf(0, topicChange(2, "b", 1, 9), partitionChange(2, 0, 7, 1, 9))
	begin.SnapshotEnd = false
	if s := apply(t, m, begin); s.TopicByName("a") == nil || s.TopicByName("b") != nil {
		t.Error("half a snapshot is visible")
	}
	s := apply(t, m, &controllerv1.WatchMetadataResponse{SnapshotEnd: true, Revision: 9, ClusterGeneration: 1})
	if s.TopicByName("a") != nil || s.TopicByName("b") == nil || s.Revision != 9 {
		t.Error("the resync did not replace everything")
	}
}

func TestNonsenseIsRefusedAndChangesNothing(t *testing.T) {
	for name, f := range map[string]*controllerv1.WatchMetadataResponse{
		"a topic without partitions":     delta(6, topicChange(3, "c", 0, 6)),
		"a topic with too many":          delta(6, topicChange(3, "c", 1<<31, 6)),
		"a topic of which one is absent": delta(6, topicChange(3, "c", 2, 6), partitionChange(3, 0, 1, 1, 6)),
		"a partition without a topic":    delta(6, partitionChange(3, 0, 1, 1, 6)),
		"a partition beyond the last":    delta(6, partitionChange(1, 5, 1, 1, 6)),
		"a short identity": delta(6, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Topic{
			Topic: &controllerv1.TopicRecord{TopicId: []byte{1}, Topic: "c", PartitionCount: 1},
		}}),
		"a revision of the past": delta(4, partitionChange(1, 0, 3, 3, 4)),
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Options{})
			before := apply(t, m, snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 7, 1, 3)))
			if err := m.Apply(f); err == nil {
				t.Error("accepted")
			}
			if m.Current() != before {
				t.Error("the snapshot changed")
			}
			m.Reset()
			if s := apply(t, m, delta(6, partitionChange(1, 0, 8, 2, 6))); s.TopicByName("a").Partition(0).Leader != 8 {
				t.Error("the mirror does not go on after a reset")
			}
		})
	}
}

func TestAChangeOfAnUnknownKindIsPassedOver(t *testing.T) {
	m := New(Options{})
	apply(t, m, snapshotOf(5))
	if s := apply(t, m, delta(6, &controllerv1.MetadataChange{Revision: 6})); s.Revision != 6 {
		t.Error("the revision is not reached")
	}
}

func TestSettingsOfANewerControllerFallBack(t *testing.T) {
	m := New(Options{})
	c := topicChange(1, "a", 1, 5)
	c.GetTopic().Config = map[string]string{"retention.ms": "5", "of.the.future": "1", "durability": "tape"}
	s := apply(t, m, snapshotOf(5, c, partitionChange(1, 0, 7, 1, 5)))
	if got := s.TopicByName("a").Config; got.RetentionMs != 5 || got.Durability != 0 {
		t.Errorf("settings are %+v", got)
	}
}

func TestWait(t *testing.T) {
	m := New(Options{})
	apply(t, m, snapshotOf(5))
	if s, err := m.Wait(t.Context(), 5); err != nil || s.Revision != 5 {
		t.Fatalf("Wait(5) = %v, %v", s, err)
	}
	got := make(chan int64)
	go func() {
		s, err := m.Wait(t.Context(), 7)
		if err != nil {
			t.Error(err)
		}
		got <- s.Revision
	}()
	apply(t, m, delta(6), delta(7))
	if rev := <-got; rev != 7 {
		t.Errorf("Wait(7) returned revision %d", rev)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := m.Wait(ctx, 8); err == nil {
		t.Error("Wait for a revision that does not come returned")
	}
}

func TestChangedTopicsYieldsTheDifference(t *testing.T) {
	m := New(Options{})
	before := apply(t, m, snapshotOf(5,
		topicChange(1, "kept", 1, 3), partitionChange(1, 0, 7, 1, 3),
		topicChange(2, "gone", 1, 3), partitionChange(2, 0, 7, 1, 3),
		topicChange(3, "changed", 1, 3), partitionChange(3, 0, 7, 1, 3)))
	after := apply(t, m, delta(9, deletionChange(2, "gone", 6), partitionChange(3, 0, 8, 2, 7), topicChange(4, "new", 1, 8), partitionChange(4, 0, 7, 1, 8)))
	var got []string
	for was, is := range after.ChangedTopics(before) {
		switch {
		case was == nil:
			got = append(got, "+"+is.Name)
		case is == nil:
			got = append(got, "-"+was.Name)
		default:
			got = append(got, "~"+is.Name)
		}
	}
	slices.Sort(got)
	if want := []string{"+new", "-gone", "~changed"}; !slices.Equal(got, want) {
		t.Errorf("difference is %v, want %v", got, want)
	}
	n := 0
	for range after.ChangedTopics(nil) {
		n++
	}
	if n != after.TopicCount() {
		t.Errorf("difference to nothing has %d topics of %d", n, after.TopicCount())
	}
	for range after.ChangedTopics(after) {
		t.Error("a snapshot differs from itself")
	}
}

func TestTopicsAreSortedAndFoundByBytes(t *testing.T) {
	m := New(Options{})
	var cs []*controllerv1.MetadataChange
	for i := range 50 {
		cs = append(cs, topicChange(byte(i), fmt.Sprintf("t%02d", (i*7)%50), 1, 3), partitionChange(byte(i), 0, 1, 1, 3))
	}
	s := apply(t, m, snapshotOf(5, cs...))
	for i, topic := range s.Topics() {
		if topic.Name != fmt.Sprintf("t%02d", i) || s.TopicByNameBytes([]byte(topic.Name)) != topic {
			t.Fatalf("topic %d is %q", i, topic.Name)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.TopicByNameBytes([]byte("t07")) }); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

// A change of one partition among 5,000 must not cost what the topic has.
func BenchmarkApplyOneOf5000Partitions(b *testing.B) {
	m := New(Options{})
	cs := []*controllerv1.MetadataChange{topicChange(1, "big", 5000, 3)}
	for i := range uint32(5000) {
		cs = append(cs, partitionChange(1, i, 7, 1, 3))
	}
	if err := m.Apply(snapshotOf(5, cs...)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	rev := int64(6)
	for b.Loop() {
		if err := m.Apply(delta(rev, partitionChange(1, uint32(rev)%5000, 7, int32(rev), rev))); err != nil {
			b.Fatal(err)
		}
		rev++
	}
}
