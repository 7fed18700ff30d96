package commitlog

import (
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Files bounds the open files and mappings of the logs that share it.
type Files = segment.Files

// NewFiles returns a Files that keeps at most limit files open; 0 means
// segment.DefaultMaxFiles.
func NewFiles(limit int) *Files { return segment.NewFiles(limit) }

const (
	// DefaultSegmentBytes is the size of a segment, in bytes, if Config has
	// none.
	DefaultSegmentBytes = 256 << 20
	// MaxSegmentBytes bounds the size of a segment: protobuf messages end at
	// 2 GiB.
	MaxSegmentBytes = 1 << 30
	// maxSegmentOffsets bounds how many offsets a segment holds.
	maxSegmentOffsets = 1 << 31
)

// Config are the settings of a log that can change while it is open.
type Config struct {
	// SegmentBytes is the size at which a segment is rolled, in bytes; 0 means
	// DefaultSegmentBytes. A larger batch has a segment of its own. While much of
	// a segment is not on disk yet it may grow to four times that, but not
	// beyond MaxSegmentBytes: see defersRoll.
	SegmentBytes int64
	// SegmentAge is the age of its first batch at which a segment is rolled,
	// when something is appended; 0: never.
	SegmentAge time.Duration
	// RetentionBytes is how many bytes of segments are kept; 0 or less: all.
	RetentionBytes int64
	// RetentionAge is how long a segment is kept after its last batch was
	// appended; 0 or less: for ever.
	RetentionAge time.Duration
}

func (c Config) withDefaults() Config {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = DefaultSegmentBytes
	}
	c.SegmentBytes = min(c.SegmentBytes, MaxSegmentBytes)
	return c
}

// Observer is told what happens to the segments of a log, for metrics. Its
// methods are called by the writer and must not block.
type Observer interface {
	// Sealed is told the size of a segment that was sealed, in bytes.
	Sealed(bytes int64)
	// Removed is told of segments that were removed, and their size in bytes.
	Removed(segments int, bytes int64)
}

// TornTail is what is left of a log whose tail is torn.
type TornTail struct {
	// End is the offset after the last good record, LastEpoch the leader epoch of
	// that; NoEpoch: there is none.
	End       record.Offset
	LastEpoch record.LeaderEpoch
}

// Options say which log to open, and with what.
type Options struct {
	FS vfs.FS
	// Dir is the directory of the partition. It is made if it is not there.
	Dir       string
	ClusterID [16]byte
	TopicID   record.TopicID
	Partition record.PartitionID
	Config    Config
	// Files bounds open files; nil: a Files of this log alone.
	Files *Files
	// BootID is the identity of this run of the operating system; zero: not
	// known. If it is that of the checkpoint, nothing written is lost, and what
	// was acknowledged is known exactly.
	BootID [16]byte
	// BeforeCut is asked before a torn tail is cut that may have been
	// acknowledged, since it was written in an earlier run of the operating
	// system, or nobody knows in which; nil: nobody is. If it returns an error,
	// Open does, and nothing is cut: the next Open finds the same.
	BeforeCut func(TornTail) error
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Logger is told of what an operator cares about; nil: nobody is.
	Logger *slog.Logger
	// Observer is told of segments; nil: nobody is.
	Observer Observer
}

func (o Options) withDefaults() Options {
	o.Config = o.Config.withDefaults()
	if o.Files == nil {
		o.Files = NewFiles(0)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = deaf{}
	}
	return o
}

type deaf struct{}

func (deaf) Sealed(int64)       {}
func (deaf) Removed(int, int64) {}
