package api

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/commitlog"
)

// world is what broker 1 knows of a partition of which it has a replica, and of
// brokers 2 and 3.
type world struct {
	leader   int32
	isr, elr []int32
	fenced   int32 // broker that is
	impaired int32 // broker that is
}

func (m *movingLeader) know(w world) {
	m.t.Helper()
	m.revision++
	topic := make([]byte, 16)
	changes := []*controllerv1.MetadataChange{
		{Change: &controllerv1.MetadataChange_Topic{Topic: &controllerv1.TopicRecord{TopicId: topic, Topic: "t", PartitionCount: 1, ReplicationFactor: 3}}},
		{Change: &controllerv1.MetadataChange_Partition{Partition: &controllerv1.PartitionRecord{
			TopicId: topic, Leader: w.leader, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2, 3}, InSyncReplicas: w.isr, EligibleLeaderReplicas: w.elr,
			DirectoryIds: [][]byte{topic, topic, topic},
		}}},
	}
	for id := int32(1); id <= 3; id++ {
		b := &controllerv1.BrokerRecord{BrokerId: id, BrokerEpoch: 1, Fenced: id == w.fenced}
		if id == w.impaired {
			b.Impairment = controllerv1.Impairment_IMPAIRMENT_DISK_READ_ONLY
		}
		changes = append(changes, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Broker{Broker: b}})
	}
	if err := m.mirror.Apply(&controllerv1.WatchMetadataResponse{
		SnapshotBegin: true, SnapshotEnd: true, Revision: m.revision, ClusterGeneration: 1, Changes: changes,
	}); err != nil {
		m.t.Fatal(err)
	}
}

func TestOthersMayLead(t *testing.T) {
	for name, c := range map[string]struct {
		world
		want bool
	}{
		"all in sync":              {world{leader: 1, isr: []int32{1, 2, 3}}, true},
		"nobody leads yet":         {world{leader: metadata.NoLeader, isr: []int32{2, 3}}, true},
		"another leads":            {world{leader: 2, isr: []int32{2}}, true},
		"alone in sync":            {world{leader: 1, isr: []int32{1}}, false},
		"another is eligible":      {world{leader: 1, isr: []int32{1}, elr: []int32{3}}, true},
		"the other is fenced":      {world{leader: 1, isr: []int32{1, 2}, fenced: 2}, false},
		"the other's disk is sick": {world{leader: 1, isr: []int32{1, 3}, impaired: 3}, false},
		"one of two is well":       {world{leader: 1, isr: []int32{1, 2, 3}, impaired: 3}, true},
		"this one's disk is sick":  {world{leader: 1, isr: []int32{1, 2}, impaired: 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMovingLeader(t)
			m.know(c.world)
			if got := m.service.othersMayLead(metadata.TopicID{}, 0); got != c.want {
				t.Errorf("got %v", got)
			}
			if m.service.othersMayLead(metadata.TopicID{1}, 0) || m.service.othersMayLead(metadata.TopicID{}, 1) {
				t.Error("others may lead what there is not")
			}
		})
	}
}

// Only what surely is not written may be sent again, and only if that can help.
func TestWhatAFailingStorageRefusesIsRetryableWhileOthersMayLead(t *testing.T) {
	refused := &commitlog.WriteError{Kind: commitlog.ReadOnly, Err: syscall.EROFS}
	failed := &commitlog.FailedError{Cause: refused}
	for name, c := range map[string]struct {
		err          error
		among, alone bool // retryable: while others may lead, while nobody can
	}{
		"a write that was refused":         {refused, true, false},
		"for want of room":                 {&commitlog.WriteError{Kind: commitlog.DiskFull, Err: syscall.ENOSPC}, true, true},
		"a partition that has failed":      {&partition.FailedError{Cause: failed}, true, false},
		"a partition that is damaged":      {&partition.QuarantinedError{Cause: syscall.EIO}, true, false},
		"what may be written":              {fmt.Errorf("%w: %w", partition.ErrUnknownOutcome, &partition.FailedError{Cause: refused}), false, false},
		"a log that could not be restored": {failed, false, false},
		"the same, for want of room":       {&commitlog.FailedError{Cause: &commitlog.WriteError{Kind: commitlog.DiskFull, Err: syscall.ENOSPC}}, false, false},
		"a partition that has failed so":   {&partition.FailedError{Cause: &commitlog.FailedError{Cause: syscall.ENOSPC}}, true, false},
		"a batch that does not fit":        {&commitlog.EpochError{}, false, false},
		"what was not foreseen":            {errors.New("what"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMovingLeader(t)
			for _, w := range []struct {
				world
				want bool
			}{{world{leader: 1, isr: []int32{1, 2, 3}}, c.among}, {world{leader: 1, isr: []int32{1}}, c.alone}} {
				m.know(w.world)
				f, told := m.service.faultAt(metadata.TopicID{}, 0, c.err), m.service.faultOf(c.err)
				if f.Retryable != w.want || f.Retryable && f.RetryAfter <= 0 {
					t.Errorf("with %v in sync: %+v", w.isr, f)
				}
				if f.Reason != told.Reason || f.Code != told.Code {
					t.Errorf("it is told as %+v, else as %+v", f, told)
				}
			}
		})
	}
}
