package topicconfig

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	pib = 1 << 50

	hourMs = 3_600_000
	dayMs  = 24 * hourMs
	// centuryMs bounds times: beyond it a value is a mistake of units.
	centuryMs = 36_525 * dayMs
)

// Entry describes a setting, for documentation and help.
type Entry struct {
	// Name of the setting.
	Name string
	// Default is its value when it is not set.
	Default string
	// Unit of the value; empty if it has none.
	Unit string
	// Allowed says which values are taken.
	Allowed string
	// Meaning is one sentence.
	Meaning string
	// Symptom says what calls for changing it.
	Symptom string
}

// Entries returns the table of settings in the order in which they are
// documented. The slice is the caller's.
func Entries() []Entry {
	es := make([]Entry, len(settings))
	for i := range settings {
		es[i] = settings[i].Entry
	}
	return es
}

// setting is an entry and how its value is read and written.
type setting struct {
	Entry
	get func(c *Config) string
	set func(c *Config, value string) error
}

func find(name string) *setting {
	for i := range settings {
		if settings[i].Name == name {
			return &settings[i]
		}
	}
	return nil
}

// integer makes a setting that is a whole number in [least, most], or
// Unlimited if that is allowed.
func integer[T ~int | ~int64](e Entry, least, most int64, unlimited bool, field func(c *Config) *T) setting {
	e.Allowed = fmt.Sprintf("%d to %d", least, most)
	if unlimited {
		e.Allowed += ", or -1 for no limit"
	}
	return setting{
		Entry: e,
		get:   func(c *Config) string { return strconv.FormatInt(int64(*field(c)), 10) },
		set: func(c *Config, value string) error {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || strconv.FormatInt(n, 10) != value { // one way to write a number
				return &InvalidError{Name: e.Name, Value: clip(value), Why: "must be a whole number, " + e.Allowed}
			}
			if (n < least || n > most) && (!unlimited || n != Unlimited) {
				return &InvalidError{Name: e.Name, Value: clip(value), Why: "must be " + e.Allowed}
			}
			*field(c) = T(n)
			return nil
		},
	}
}

// words are the values of a setting that is one of a few words, in the order
// of their numbers.
type words []string

var (
	durabilities    = words{"disk", "memory"}
	timestampTypes  = words{"create", "append"}
	cleanupPolicies = words{"delete"}
)

func (w words) name(i int) string {
	if i < len(w) {
		return w[i]
	}
	return strconv.Itoa(i)
}

// word makes a setting that is one of a few words.
func word[T ~uint8](e Entry, ws words, field func(c *Config) *T) setting {
	e.Allowed = strings.Join(ws, " or ")
	return setting{
		Entry: e,
		get:   func(c *Config) string { return ws.name(int(*field(c))) },
		set: func(c *Config, value string) error {
			for i, w := range ws {
				if value == w {
					*field(c) = T(i)
					return nil
				}
			}
			return &InvalidError{Name: e.Name, Value: clip(value), Why: "must be " + e.Allowed}
		},
	}
}

// settings is the table. Defaults and limits are decided here and nowhere
// else.
var settings = []setting{
	integer(Entry{
		Name: "retention.ms", Default: strconv.Itoa(7 * dayMs), Unit: "milliseconds",
		Meaning: "How long a segment is kept after its last append.",
		Symptom: "The disk fills, or readers that were away find their offset gone.",
	}, 1, centuryMs, true, func(c *Config) *int64 { return &c.RetentionMs }),
	integer(Entry{
		Name: "retention.bytes", Default: strconv.Itoa(Unlimited), Unit: "bytes",
		Meaning: "How much of each partition is kept; whole segments go, the oldest first.",
		Symptom: "The disk fills before retention.ms has passed.",
	}, 1, pib, true, func(c *Config) *int64 { return &c.RetentionBytes }),
	integer(Entry{
		Name: "segment.bytes", Default: strconv.Itoa(256 * mib), Unit: "bytes",
		Meaning: "Size at which a segment is sealed and the next begins; while it waits for the disk it may reach four times that, and 1 GiB at most.",
		Symptom: "Retention frees space in steps that are too coarse, or there are too many files.",
	}, 16*kib, gib, false, func(c *Config) *int64 { return &c.SegmentBytes }),
	integer(Entry{
		Name: "segment.ms", Default: strconv.Itoa(7 * dayMs), Unit: "milliseconds",
		Meaning: "Age at which a segment is sealed though it is not full.",
		Symptom: "A quiet topic keeps records long after retention.ms.",
	}, 1_000, centuryMs, false, func(c *Config) *int64 { return &c.SegmentMs }),
	word(Entry{
		Name: "durability", Default: "disk",
		Meaning: "Where a record is on the in-sync replicas before it is acknowledged: on disk, or in memory and synced later.",
		Symptom: "Produce is limited by syncs and losing the last seconds in a power cut of all replicas is acceptable.",
	}, durabilities, func(c *Config) *Durability { return &c.Durability }),
	integer(Entry{
		Name: "min.insync.replicas", Default: "2", Unit: "replicas",
		Meaning: "How many replicas must be in sync for writes to be taken; in force is the least of it and the number of replicas.",
		Symptom: "Writes are refused while one broker is down, or losing one broker must never lose records.",
	}, 1, MaxReplicationFactor, false, func(c *Config) *int { return &c.MinInsyncReplicas }),
	word(Entry{
		Name: "cleanup.policy", Default: "delete",
		Meaning: "How old records go: delete removes whole segments by age and size.",
		Symptom: "None yet: there is one policy.",
	}, cleanupPolicies, func(c *Config) *CleanupPolicy { return &c.CleanupPolicy }),
	integer(Entry{
		Name: "max.batch.bytes", Default: strconv.Itoa(mib), Unit: "bytes",
		Meaning: "Largest batch that is taken, as sent.",
		Symptom: "Producers get BATCH_TOO_LARGE.",
	}, kib, 3*mib, false, func(c *Config) *int { return &c.MaxBatchBytes }),
	integer(Entry{
		Name: "max.record.bytes", Default: strconv.Itoa(mib), Unit: "bytes",
		Meaning: "Largest record that is taken, decompressed.",
		Symptom: "Records that consumers cannot handle get in.",
	}, 1, mib, false, func(c *Config) *int { return &c.MaxRecordBytes }),
	word(Entry{
		Name: "timestamp.type", Default: "create",
		Meaning: "Which time a record carries: the one its producer gave, or that of the append.",
		Symptom: "Producers' clocks cannot be trusted.",
	}, timestampTypes, func(c *Config) *TimestampType { return &c.TimestampType }),
	integer(Entry{
		Name: "timestamp.max.ahead.ms", Default: strconv.Itoa(hourMs), Unit: "milliseconds",
		Meaning: "How far ahead of the broker's clock a create time may be.",
		Symptom: "Producers get TIMESTAMP_TOO_FAR_AHEAD.",
	}, 0, centuryMs, false, func(c *Config) *int64 { return &c.TimestampMaxAheadMs }),
}
