package reconcile

import "fmt"

// NotActiveError says that another controller is active.
type NotActiveError struct {
	// Active is that controller; -1: none is known.
	Active int32
	// Self is the controller that says so.
	Self int32
}

// Error says it for people.
func (e *NotActiveError) Error() string {
	if e.Active < 0 {
		return "no controller is active"
	}
	return fmt.Sprintf("controller %d is active, not this one", e.Active)
}

// TopicExistsError says that a name is taken.
type TopicExistsError struct{ Topic string }

// Error says it for people.
func (e *TopicExistsError) Error() string { return fmt.Sprintf("topic %q exists", e.Topic) }

// UnknownTopicError says that there is no such topic.
type UnknownTopicError struct {
	Topic string
	// Another says that there is one of that name, but not of the identity
	// that was given.
	Another bool
}

// Error says it for people.
func (e *UnknownTopicError) Error() string {
	if e.Another {
		return fmt.Sprintf("topic %q is not the one of the given topic id", e.Topic)
	}
	return fmt.Sprintf("there is no topic %q", e.Topic)
}

// ConflictError says that a topic has changed since the caller looked.
type ConflictError struct {
	Topic string
	// Expected is the revision that the change was meant for.
	Expected int64
	// Current is the topic's.
	Current int64
}

// Error says it for people.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("topic %q is at revision %d, not %d", e.Topic, e.Current, e.Expected)
}

// StaleBrokerEpochError says that a call is not of the broker's last
// incarnation.
type StaleBrokerEpochError struct {
	Broker int32
	// Epoch is the one in the call.
	Epoch int64
	// Current is the last one given out; 0: the broker is not registered.
	Current int64
}

// Error says it for people.
func (e *StaleBrokerEpochError) Error() string {
	return fmt.Sprintf("broker %d: epoch %d is not the current one, %d", e.Broker, e.Epoch, e.Current)
}

// WrongClusterError says that a broker's directory belongs to another cluster.
type WrongClusterError struct {
	// Got is the broker's, Want this cluster's: identity in hexadecimal and
	// generation.
	Got, Want string
}

// Error says it for people.
func (e *WrongClusterError) Error() string {
	return fmt.Sprintf("the directory belongs to cluster %s; this is cluster %s", e.Got, e.Want)
}

// BrokerAliveError says that another process is the broker that wants to
// register, and was heard just now.
type BrokerAliveError struct {
	Broker int32
	// Address is where clients reach it.
	Address string
	// SameDirectory says that it has the same directory, or a copy of it.
	SameDirectory bool
}

// Error says it for people.
func (e *BrokerAliveError) Error() string {
	if e.SameDirectory {
		return fmt.Sprintf("broker %d is running already, at %s, with this data directory or one that is a copy", e.Broker, e.Address)
	}
	return fmt.Sprintf("broker %d is running already, at %s, with another data directory", e.Broker, e.Address)
}

// FeatureLevelError says that a broker cannot serve what is in force.
type FeatureLevelError struct {
	Least, Greatest, InForce uint32
}

// Error says it for people.
func (e *FeatureLevelError) Error() string {
	return fmt.Sprintf("feature level %d is in force, and this version of the broker serves %d to %d: start one that serves it", e.InForce, e.Least, e.Greatest)
}

// LimitError says that the cluster has as many of something as it may.
type LimitError struct {
	// Limit is its name.
	Limit string
	// Most is the limit, Actual what would have been.
	Most, Actual int64
}

// Error says it for people.
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s may be at most %d, not %d", e.Limit, e.Most, e.Actual)
}

// UnfinishedError says that a topic is being created and cannot be finished
// now: it is later, by itself.
type UnfinishedError struct{ Topic string }

// Error says it for people.
func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("topic %q is not finished yet; it will be when its brokers can be counted on", e.Topic)
}

// UnknownPartitionError says that a topic has no such partition.
type UnknownPartitionError struct {
	Topic     string
	Partition uint32
	// Count is how many it has.
	Count int
}

// Error says it for people.
func (e *UnknownPartitionError) Error() string {
	return fmt.Sprintf("topic %q has partitions 0 to %d, not %d", e.Topic, e.Count-1, e.Partition)
}

// NotOfflineError says that a partition needs no recovery.
type NotOfflineError struct {
	Topic     string
	Partition uint32
	// Leader is who leads it, LeaderEpoch the epoch it leads in.
	Leader, LeaderEpoch int32
}

// Error says it for people.
func (e *NotOfflineError) Error() string {
	return fmt.Sprintf("partition %d of topic %q is led by broker %d: there is nothing to recover", e.Partition, e.Topic, e.Leader)
}

// NoReplicaServesError says that no broker is there that could lead.
type NoReplicaServesError struct {
	Topic     string
	Partition uint32
	// Replicas are the brokers that hold it.
	Replicas []int32
}

// Error says it for people.
func (e *NoReplicaServesError) Error() string {
	return fmt.Sprintf("none of the brokers %v that hold partition %d of topic %q serves", e.Replicas, e.Partition, e.Topic)
}

// MayReturnError says that a partition waits for brokers that may have more, and
// may come back: starting them loses nothing.
type MayReturnError struct {
	Topic     string
	Partition uint32
	// Awaited are the brokers that it waits for and that are not lost.
	Awaited []int32
}

// Error says it for people.
func (e *MayReturnError) Error() string {
	return fmt.Sprintf("partition %d of topic %q waits for brokers %v, which may have everything and were not said to be lost", e.Partition, e.Topic, e.Awaited)
}

// UnknownBrokerError says that there is no such broker.
type UnknownBrokerError struct{ Broker int32 }

// Error says it for people.
func (e *UnknownBrokerError) Error() string { return fmt.Sprintf("there is no broker %d", e.Broker) }

// BrokerInUseError says that a broker cannot be forgotten.
type BrokerInUseError struct {
	Broker int32
	// Replicas is how many it holds.
	Replicas int
	// Running says that it is not fenced, Stopping that it has said, though, that
	// it is about to end.
	Running, Stopping bool
}

// Error says it for people.
func (e *BrokerInUseError) Error() string {
	if e.Replicas > 0 {
		return fmt.Sprintf("broker %d holds %d replicas: drain it first", e.Broker, e.Replicas)
	}
	return fmt.Sprintf("broker %d is running: stop it first", e.Broker)
}

// NoPlaceError says that a broker cannot be drained, as what it holds of some
// topics could go nowhere.
type NoPlaceError struct {
	Broker int32
	// Topic and Partition are the first, by name, that could not go.
	Topic     string
	Partition uint32
	// Topics is how many topics have such partitions.
	Topics int
	// Wanted is how many replicas the partition has, Available how many other
	// brokers take replicas.
	Wanted, Available int
}

// Error says it for people.
func (e *NoPlaceError) Error() string {
	return fmt.Sprintf("broker %d cannot be drained: partition %d of topic %q could go nowhere, as its replication factor is %d and the number of other brokers that take replicas %d; topics in the way: %d",
		e.Broker, e.Partition, e.Topic, e.Wanted, e.Available, e.Topics)
}

// FewerPartitionsError says that a topic would have fewer partitions.
type FewerPartitionsError struct {
	Topic       string
	Have, Asked uint32
}

// Error says it for people.
func (e *FewerPartitionsError) Error() string {
	return fmt.Sprintf("topic %q has %d partitions; it cannot have %d", e.Topic, e.Have, e.Asked)
}
