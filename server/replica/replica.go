package replica

import "github.com/millstream-io/millstream/storage/record"

// ID is the identity of a broker that holds a replica.
type ID int32

// None is no broker.
const None ID = -1

// Durability says how far a replica must have brought a batch for its
// acknowledgement to count.
type Durability uint8

// The durabilities. The zero value is the safe one.
const (
	// Disk counts what is synced.
	Disk Durability = iota
	// Memory counts what is written (in the page cache).
	Memory
)

// String returns the name of a durability.
func (d Durability) String() string {
	if d == Memory {
		return "memory"
	}
	return "disk"
}

// Assignment is the part of a partition's record that a replica decides by.
// BORROWED: the slices are copied by the step that takes them.
type Assignment struct {
	// Epoch is the leader epoch.
	Epoch record.LeaderEpoch
	// PartitionEpoch grows with every change of the record.
	PartitionEpoch int32
	// Replicas are all members, in any order.
	Replicas []ID
	// InSync is the committed ISR, a subset of Replicas.
	InSync []ID
	// MinInSync is min.insync.replicas as set; see EffectiveMinInSync.
	MinInSync int
	// Durability is what the topic asks for.
	Durability Durability
	// Adding are those of the replicas that were added to move the partition, and
	// AddingRate is with how many bytes a second each of them is filled until it
	// is in sync; 0: as fast as can be.
	Adding     []ID
	AddingRate uint64
	// HandsOver says that the leader is to hand the partition over, to Successor.
	HandsOver bool
	Successor ID
}

// EffectiveMinInSync returns how many replicas the committed ISR must have for
// the high watermark to move: no more than there are, at least one.
func (a *Assignment) EffectiveMinInSync() int { return max(1, min(a.MinInSync, len(a.Replicas))) }

// Progress is how far a replica is.
type Progress struct {
	// End is the offset after the last record written.
	End record.Offset
	// SyncedEnd is the offset after the last record on disk, at most End.
	SyncedEnd record.Offset
}

// at returns the ack end: how far the replica may acknowledge.
func (p Progress) at(d Durability) record.Offset {
	if d == Memory || mutation == AckBeforeSync {
		return p.End
	}
	return p.SyncedEnd
}

// Effects are what a step of a leader asks for.
type Effects struct {
	// HighWatermark is the high watermark after the step.
	HighWatermark record.Offset
	// Advanced says that the step moved it.
	Advanced bool
	// NeedSync says that the leader's own log has records that only a sync
	// can commit.
	NeedSync bool
	// Fenced says that the event belongs to another epoch or session and
	// changed nothing.
	Fenced bool
}
