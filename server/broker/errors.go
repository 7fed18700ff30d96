package broker

import (
	"fmt"

	"github.com/millstream-io/millstream/storage/record"
)

// UnknownTopicError says that there is no such topic.
type UnknownTopicError struct{ Topic string }

// Error says it for people.
func (e *UnknownTopicError) Error() string { return fmt.Sprintf("topic %q does not exist", e.Topic) }

// UnknownPartitionError says that the topic has no such partition.
type UnknownPartitionError struct {
	// Topic and Partition that were asked for.
	Topic     string
	Partition uint32
	// Count is the number of partitions that the topic has.
	Count int
}

// Error says it for people.
func (e *UnknownPartitionError) Error() string {
	return fmt.Sprintf("topic %q has %d partitions, there is no partition %d", e.Topic, e.Count, e.Partition)
}

// NotLeaderError says that another broker leads the partition, or none.
type NotLeaderError struct {
	// Topic and Partition that were asked for.
	Topic     string
	Partition uint32
	// Leader is who leads; -1: nobody, or nobody yet.
	Leader int32
	// Address is where clients reach the leader; "" without one.
	Address string
	// Epoch is the leader epoch.
	Epoch record.LeaderEpoch
	// Revision is the metadata revision that says so.
	Revision int64
}

// Error says it for people.
func (e *NotLeaderError) Error() string {
	if e.Leader < 0 {
		return fmt.Sprintf("%s-%d has no leader (epoch %d)", e.Topic, e.Partition, e.Epoch)
	}
	return fmt.Sprintf("%s-%d is led by broker %d at %s (epoch %d)", e.Topic, e.Partition, e.Leader, e.Address, e.Epoch)
}

// MisplacedError says that the metadata has the replica in another log
// directory than this broker's: the disk was exchanged.
type MisplacedError struct {
	// Have is this broker's directory, Want the one with the replica.
	Have, Want ID16
}

// Error says it for people.
func (e *MisplacedError) Error() string {
	return fmt.Sprintf("the replica is in log directory %s, this broker has %s", e.Want, e.Have)
}
