// Package topicconfig owns the settings of a topic: their names, defaults,
// limits and meanings, and the rule for topic names. Brokers and the
// controller read the one table in it, so that both refuse the same things
// with the same words.
//
// It refuses to own where settings are kept or how they are applied: it is a
// pure leaf that imports nothing of ours, holds no state, starts no goroutine
// and never reads a clock.
//
// INVARIANT: every Config that Parse returns is within the limits of the
// table, and Parse(c.Values()) gives c back.
package topicconfig

import (
	"maps"
	"slices"
)

// Limits of a topic that are no settings.
const (
	// MaxPartitions is the greatest number of partitions of one topic.
	MaxPartitions = 10_000
	// MaxReplicationFactor is the greatest number of replicas of a partition.
	MaxReplicationFactor = 15
)

// Unlimited is the value of retention.ms and retention.bytes that keeps
// everything.
const Unlimited = -1

// Durability says where a record is before it is acknowledged.
type Durability uint8

// The durabilities.
const (
	// DurabilityDisk acknowledges what in-sync replicas have synced to disk.
	DurabilityDisk Durability = iota
	// DurabilityMemory acknowledges what they have in the page cache.
	DurabilityMemory
)

// String returns the durability as a setting has it.
func (d Durability) String() string { return durabilities.name(int(d)) }

// TimestampType says which time a record carries.
type TimestampType uint8

// The timestamp types.
const (
	// TimestampCreate keeps the time that the producer gave.
	TimestampCreate TimestampType = iota
	// TimestampAppend is the time of the append.
	TimestampAppend
)

// String returns the timestamp type as a setting has it.
func (t TimestampType) String() string { return timestampTypes.name(int(t)) }

// CleanupPolicy says how old records go.
type CleanupPolicy uint8

// CleanupDelete removes whole segments by age and size.
const CleanupDelete CleanupPolicy = 0

// String returns the policy as a setting has it.
func (p CleanupPolicy) String() string { return cleanupPolicies.name(int(p)) }

// Config is the settings of one topic, all in force. The zero value is not
// valid; begin with Default or Parse.
type Config struct {
	// RetentionMs is how long a segment is kept, in milliseconds; Unlimited: for ever.
	RetentionMs int64
	// RetentionBytes is how much of a partition is kept, in bytes; Unlimited: all.
	RetentionBytes int64
	// SegmentBytes is the size at which a segment is rolled, in bytes; while it
	// waits for the disk it may grow beyond (commitlog.Config).
	SegmentBytes int64
	// SegmentMs is the age at which a segment is rolled, in milliseconds.
	SegmentMs int64
	// Durability is where a record is before it is acknowledged.
	Durability Durability
	// MinInsyncReplicas is as set; see EffectiveMinInsync.
	MinInsyncReplicas int
	// MaxBatchBytes is the largest batch taken, in bytes as sent.
	MaxBatchBytes int
	// MaxRecordBytes is the largest record taken, in bytes decompressed.
	MaxRecordBytes int
	// TimestampType is which time a record carries.
	TimestampType TimestampType
	// TimestampMaxAheadMs is how far ahead of the broker's clock a create
	// time may be, in milliseconds.
	TimestampMaxAheadMs int64
	// CleanupPolicy is how old records go.
	CleanupPolicy CleanupPolicy
}

// Default returns the settings of a topic for which none was set.
func Default() Config {
	var c Config
	for i := range settings {
		if err := settings[i].set(&c, settings[i].Default); err != nil {
			panic("topicconfig: default refused: " + err.Error()) // a test parses all of them
		}
	}
	return c
}

// Parse returns the settings in force for a topic for which set was set. It
// fails with *UnknownError or *InvalidError, for the first name in order.
func Parse(set map[string]string) (Config, error) {
	c := Default()
	for _, name := range slices.Sorted(maps.Keys(set)) {
		s := find(name)
		if s == nil {
			return Config{}, &UnknownError{Name: clip(name)}
		}
		if err := s.set(&c, set[name]); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// Change returns a copy of old in which the settings of set are set and those
// of reset are not, and the settings in force after that. A name in both, or
// an unknown one in either, is refused. It fails as Parse does.
func Change(old, set map[string]string, reset []string) (map[string]string, Config, error) {
	next := maps.Clone(old)
	if next == nil {
		next = make(map[string]string, len(set))
	}
	for _, name := range slices.Sorted(slices.Values(reset)) {
		if find(name) == nil {
			return nil, Config{}, &UnknownError{Name: clip(name)}
		}
		if v, both := set[name]; both {
			return nil, Config{}, &InvalidError{Name: name, Value: clip(v), Why: "is both set and reset"}
		}
		delete(next, name)
	}
	maps.Copy(next, set)
	c, err := Parse(next)
	if err != nil {
		return nil, Config{}, err
	}
	return next, c, nil
}

// Values returns every setting with its value in force.
func (c Config) Values() map[string]string {
	m := make(map[string]string, len(settings))
	for i := range settings {
		m[settings[i].Name] = settings[i].get(&c)
	}
	return m
}

// EffectiveMinInsync returns how many replicas must be in sync for a
// partition of that many replicas to take writes: no more than there are.
func (c Config) EffectiveMinInsync(replicas int) int {
	return max(1, min(c.MinInsyncReplicas, replicas))
}

// UnknownError says that no setting has that name.
type UnknownError struct {
	// Name as given, cut to a printable length.
	Name string
}

// Error says it for people.
func (e *UnknownError) Error() string {
	return "no topic setting is called " + quote(e.Name)
}

// InvalidError says that the value of a setting is not acceptable.
type InvalidError struct {
	// Name of the setting.
	Name string
	// Value as given, cut to a printable length.
	Value string
	// Why it is refused, to follow the name: "must be …".
	Why string
}

// Error says it for people.
func (e *InvalidError) Error() string {
	return e.Name + " " + e.Why + ", not " + quote(e.Value)
}
