package dev

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/history"
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/metadata"
)

// topicID is the identity of a topic.
func topicID(n byte) []byte { return bytes.Repeat([]byte{n}, 16) }

func topicIs(n byte, partitions uint32, revision int64, config map[string]string) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Revision: revision, Change: &controllerv1.MetadataChange_Topic{Topic: &controllerv1.TopicRecord{
		TopicId: topicID(n), Topic: "a", PartitionCount: partitions, ReplicationFactor: 1, Config: config,
	}}}
}

func partitionIs(n byte, number uint32, leader, epoch int32, revision int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Revision: revision, Change: &controllerv1.MetadataChange_Partition{Partition: &controllerv1.PartitionRecord{
		TopicId: topicID(n), Partition: number, Leader: leader, LeaderEpoch: epoch, PartitionEpoch: epoch, Replicas: []int32{1, 2}, InSyncReplicas: []int32{2},
	}}}
}

func gone(n byte, revision int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Revision: revision, Change: &controllerv1.MetadataChange_Deletion{Deletion: &controllerv1.DeletionRecord{
		TopicId: topicID(n), Revision: revision,
	}}}
}

// toldIn returns what the history in a directory says of metadata, in words.
func toldIn(t *testing.T, dir string) (told []string) {
	t.Helper()
	r, err := history.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return told
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != history.MetadataTold {
			continue
		}
		m := e.Metadata
		words := []string{fmt.Sprintf("%d/%d", m.Generation, m.Revision)}
		for _, s := range m.Topics {
			words = append(words, fmt.Sprintf("%s %s", s.Topic, s.ID[:2]))
			if s.Revision > 0 {
				words = append(words, fmt.Sprintf("%v at %d", s.Settings, s.Revision))
			}
			for i, p := range s.Partitions {
				if len(s.Partitions) > 3 && i > 0 {
					words = append(words, fmt.Sprintf("and %d more", len(s.Partitions)-1))
					break
				}
				words = append(words, fmt.Sprintf("%d: %d leads in %d.%d at %d, in sync %v of %v", p.Partition, p.Leader, p.LeaderEpoch, p.Epoch, p.Revision, p.ISR, p.Replicas))
			}
		}
		for _, name := range m.Gone {
			words = append(words, name+" is gone")
		}
		if m.More {
			words = append(words, "more")
		}
		told = append(told, strings.Join(words, ", "))
	}
}

// A broker writes down what it is told before it goes by it: what is new or
// another, and up to which revision that is all.
func TestWhatABrokerIsToldIsWrittenDown(t *testing.T) {
	dir := t.TempDir()
	a, err := openAudit(dir, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var m *metadata.Mirror
	m = metadata.New(metadata.Options{Told: func(before, next *metadata.Snapshot) {
		if m.Current() != before || before.Revision > next.Revision {
			t.Errorf("revision %d is published when %d is told after %d", m.Current().Revision, next.Revision, before.Revision)
		}
		a.told(before, next)
	}})
	for _, f := range []*controllerv1.WatchMetadataResponse{
		{SnapshotBegin: true, SnapshotEnd: true, Revision: 5, Changes: []*controllerv1.MetadataChange{
			topicIs(1, 2, 3, map[string]string{"segment.ms": "7"}), partitionIs(1, 0, 1, 1, 4), partitionIs(1, 1, 2, 1, 4),
		}},
		{Revision: 5},                        // it is confirmed
		{Revision: 5, ActiveControllerId: 2}, // of no interest
		{Revision: 7},
		{Revision: 0, Changes: []*controllerv1.MetadataChange{partitionIs(1, 1, -1, 2, 8)}},
		{Revision: 9, Changes: []*controllerv1.MetadataChange{topicIs(1, 2, 9, nil)}},
		{Revision: 12, Changes: []*controllerv1.MetadataChange{gone(1, 10), topicIs(2, 1, 12, nil), partitionIs(2, 0, 1, 1, 12)}},
		{Revision: 13, Changes: []*controllerv1.MetadataChange{gone(2, 13)}},
	} {
		f.ClusterGeneration = 1
		if err := m.Apply(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	got, want := strings.Join(toldIn(t, dir), "\n"), strings.Join([]string{
		"1/5, a 01, map[segment.ms:7] at 3, 0: 1 leads in 1.1 at 4, in sync [2] of [1 2], 1: 2 leads in 1.1 at 4, in sync [2] of [1 2]",
		"1/7",
		"1/9, a 01, map[] at 9, 1: -1 leads in 2.2 at 8, in sync [2] of [1 2]",
		"1/12, a 02, map[] at 12, 0: 1 leads in 1.1 at 12, in sync [2] of [1 2]",
		"1/13, a is gone",
	}, "\n")
	if got != want {
		t.Errorf("told is\n%s\nnot\n%s", got, want)
	}
}

// Much is told in several lines, none of which is too long to be read.
func TestMuchIsToldInPieces(t *testing.T) {
	dir := t.TempDir()
	a, err := openAudit(dir, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m := metadata.New(metadata.Options{Told: a.told})
	const n = toldAtOnce + 5
	f := &controllerv1.WatchMetadataResponse{SnapshotBegin: true, SnapshotEnd: true, Revision: 5, ClusterGeneration: 1}
	f.Changes = append(f.Changes, topicIs(1, n, 3, nil))
	for p := range uint32(n) {
		f.Changes = append(f.Changes, partitionIs(1, p, 1, 1, 4))
	}
	if err := errors.Join(m.Apply(f), a.close()); err != nil {
		t.Fatal(err)
	}
	got, want := strings.Join(toldIn(t, dir), "\n"), strings.Join([]string{
		"1/5, a 01, map[] at 3, 0: 1 leads in 1.1 at 4, in sync [2] of [1 2], and 999 more, more",
		"1/5, a 01, 1000: 1 leads in 1.1 at 4, in sync [2] of [1 2], and 4 more",
	}, "\n")
	if got != want {
		t.Errorf("told is\n%s\nnot\n%s", got, want)
	}
}
