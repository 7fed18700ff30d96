// Package metadata mirrors what the controller says of the cluster: topics,
// partitions and their leaders, brokers, deletions. It owns the watch of one
// broker and the immutable snapshots that the watch produces.
//
// It refuses to own decisions (the controller's) and local logs (the
// broker's), and it never invents: without the controller it keeps the last
// snapshot and says how old it is.
//
// INVARIANT: a published Snapshot never changes, is complete at its Revision,
// and within a Generation revisions never go back.
//
// Goroutines: Run is one, and there is no other. A Mirror holds nothing that
// must be closed.
package metadata

import (
	"encoding/hex"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// NoLeader is the leader of a partition that nobody leads.
const NoLeader int32 = -1

// TopicID is the identity of a topic.
type TopicID [16]byte

// String returns the identity in hexadecimal, as directories are named.
func (id TopicID) String() string { return hex.EncodeToString(id[:]) }

// DirectoryID is the identity of a log directory.
type DirectoryID [16]byte

// String returns the identity in hexadecimal.
func (id DirectoryID) String() string { return hex.EncodeToString(id[:]) }

// Topic is a topic with its partitions. It is part of a Snapshot: read only.
type Topic struct {
	// ID is its identity; a topic created again under its name has another.
	ID TopicID
	// Name is its name.
	Name string
	// Config is the settings in force.
	Config topicconfig.Config
	// Set is the settings that were set for it.
	Set map[string]string
	// ReplicationFactor is the number of replicas of each partition.
	ReplicationFactor int
	// PartitioningEpoch grows when the number of partitions does.
	PartitioningEpoch uint32
	// CreateTimeMs is when it was created.
	CreateTimeMs int64
	// Revision is that of the last change of its record.
	Revision int64
	// Partitions are in order, and none is missing or nil.
	Partitions []*Partition
}

// Partition returns the partition of that number, nil if there is none.
func (t *Topic) Partition(id uint32) *Partition {
	if int64(id) >= int64(len(t.Partitions)) {
		return nil
	}
	return t.Partitions[id]
}

// Partition is the state of a partition. It is part of a Snapshot: read only.
type Partition struct {
	// ID is its number, from 0.
	ID uint32
	// Leader is the broker that leads it, or NoLeader.
	Leader int32
	// LeaderEpoch is the epoch it leads in.
	LeaderEpoch int32
	// Epoch grows with every change of the partition's record.
	Epoch int32
	// Replicas are the brokers that hold it, the preferred leader first.
	Replicas []int32
	// Directories are the log directories of the replicas, in their order.
	Directories []DirectoryID
	// ISR are the replicas in sync.
	ISR []int32
	// MinISR is min.insync.replicas in force, as set.
	MinISR int
	// Disk says that the durability in force is DISK.
	Disk bool
	// ELR are the replicas that may lead though they are not in sync.
	ELR []int32
	// LastKnown are the replicas last known to have had everything.
	LastKnown []int32
	// Target are the replicas that it shall have; empty: it is not being moved.
	Target []int32
	// Adding are those of the replicas that were added for the move.
	Adding []int32
	// MoveBytesPerSecond is how fast each of those may be filled; 0: as fast as
	// can be.
	MoveBytesPerSecond uint64
	// Successor is whom the leader is to hand the partition over to, or NoLeader.
	Successor int32
	// FromBackup says that what is known of it comes from a backup, and may have
	// changed since; nobody has led it since.
	FromBackup bool
	// Revision is that of its last change.
	Revision int64
}

// EffectiveMinISR returns how many replicas must be in sync: a partition cannot
// have more than it has replicas (rule H2).
func (p *Partition) EffectiveMinISR() int { return max(1, min(p.MinISR, len(p.Replicas))) }

// Broker is a broker as the controller knows it. It is part of a Snapshot:
// read only.
type Broker struct {
	// ID is its identity.
	ID int32
	// Epoch is that of its incarnation.
	Epoch int64
	// Address is where clients reach it.
	Address string
	// InternalAddress is where brokers reach it.
	InternalAddress string
	// Rack is where it stands.
	Rack string
	// Version is that of its software.
	Version string
	// Fenced says that it is not to be counted on.
	Fenced bool
	// Stopping says that it stops in an orderly way.
	Stopping bool
	// Draining says that everything on it is to be moved away.
	Draining bool
	// Impairment says what is the matter with its disk.
	Impairment controllerv1.Impairment
	// DrainBytesPerSecond is how fast each replica may be filled elsewhere for
	// that; 0: as fast as can be.
	DrainBytesPerSecond uint64
	// Directory is its log directory.
	Directory DirectoryID
	// RegisterTimeMs is when this incarnation registered.
	RegisterTimeMs int64
	// Revision is that of its last change.
	Revision int64
}

// Deletion says that a topic was deleted: the only reason to remove a
// directory. It is part of a Snapshot: read only.
type Deletion struct {
	// ID is the topic's identity.
	ID TopicID
	// Name is the name it had.
	Name string
	// TimeMs is when it was deleted.
	TimeMs int64
	// Now says to skip the trash.
	Now bool
	// Generation is the cluster's when it was deleted.
	Generation uint32
	// Revision is that of the deletion.
	Revision int64
}
