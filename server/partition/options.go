package partition

import (
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// Syncer is one wish for a sync.
type Syncer interface {
	// Sync syncs and blocks meanwhile. A failed sync is final for the whole log
	// directory; one that could not be begun is not, and is tried again.
	Sync() error
	// Abandon says that there will be no Sync: the directory has failed.
	Abandon(cause error)
}

// Flusher runs the syncs of a log directory, a bounded number at once, oldest
// first.
type Flusher interface {
	// Submit asks for a sync and returns at once. Exactly one of the Syncer's
	// methods is called, on another goroutine.
	Submit(Syncer)
}

// Observer is told what happens, for metrics and for the log directory. Its
// methods must not block.
type Observer interface {
	// Appended counts a group that was written.
	Appended(batches, records, bytes int)
	// AppendFailed counts batches that were not written because of storage.
	AppendFailed(batches int, err error)
	// Quarantined says that damage was found in the log.
	Quarantined(err error)
	// LogFailed says that the log has failed for good.
	LogFailed(err error)
	// Followed counts bytes of a leader's log that were written.
	Followed(bytes int)
	// HandedOver says for how long requests waited while the leadership was being
	// handed over, and whether another leads now.
	HandedOver(took time.Duration, done bool)
	// Lost counts records that were committed and are cut, since the leader does
	// not have them.
	Lost(records record.Offset)
}

// Options are what a partition is made of. They are copied.
type Options struct {
	// Log is the open log. The partition closes it.
	Log *commitlog.Log
	// Damage is what recovery found, or nil: the partition begins quarantined.
	Damage error
	// Self is this broker.
	Self replica.ID
	// Flusher runs the syncs of the log's directory.
	Flusher Flusher
	// Observer is told what happens; nil: nobody.
	Observer Observer
	// Settings are the topic's; SetSettings changes them.
	Settings Settings
	// Limits bound the mailbox.
	Limits Limits
	// IdleAfter is how long the partition keeps its goroutine and its files
	// without work; 1 s unless set. See SyncInBackground.
	IdleAfter time.Duration
	// Now is the clock; time.Now unless set.
	Now func() time.Time
	// Sessions numbers the sessions of all that this broker follows; its own
	// unless set.
	Sessions *replica.Sessions
	// Propose takes a wish for another ISR, for the controller; nil: nobody. It
	// must not block.
	Propose func(replica.Proposal)
	// Impaired tells which brokers have disks that are in trouble: they come in
	// sync only where too few others are; nil: none. It must not block.
	Impaired func(replica.ID) bool
	// Auditor is told what the replica does; nil: nobody.
	Auditor Auditor
	// LagMax is how long a replica may be behind and stay in sync; 10 s unless
	// set.
	LagMax time.Duration
	// Away says that nothing has come from a broker for a while that follows, or
	// should: it has no stream here. nil: nobody is. It must not block.
	Away func(replica.ID) bool
	// Vouched is when, as Uptime, the controller was asked last that has answered
	// with metadata which this broker has carried out; nil: never.
	Vouched func() time.Duration
	// Uptime is the clock of sessions; the function of that name unless set.
	Uptime func() time.Duration
	// Logger takes changes of state; slog.Default unless set.
	Logger *slog.Logger
}

// Settings are the topic's settings that the partition applies itself.
type Settings struct {
	// AppendTime gives every record the time of its append
	// (timestamp.type=append).
	AppendTime bool
	// MaxAheadMs is timestamp.max.ahead.ms, for create times only.
	MaxAheadMs int64
}

// Limits bound what a mailbox holds: requests that wait to be written and
// requests that wait for their acknowledgement. Append blocks at a limit.
type Limits struct {
	// Requests; 8,192 unless set. At DISK about half of them are one group.
	Requests int
	// Bytes of batches; 32 MiB unless set: one group being written, one being
	// synced, and the next. One batch is taken whatever its size.
	Bytes int
}

// Bounds of one group: what one pwritev takes (1,024 pieces, header and bytes
// of each batch) and what keeps the answer to a small batch behind large ones
// below some 10 ms.
const (
	groupRequests = 512
	groupBytes    = 8 << 20
)

// followWindow is how many bytes may be on their way to a follower in one
// session: as many pushes as keep it writing while acknowledgements and the
// next pushes travel.
const followWindow = 4 << 20

func (o Options) withDefaults() Options {
	if o.IdleAfter <= 0 {
		o.IdleAfter = time.Second
	}
	if o.Limits.Requests <= 0 {
		o.Limits.Requests = 8192
	}
	if o.Limits.Bytes <= 0 {
		o.Limits.Bytes = 32 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sessions == nil {
		o.Sessions = new(replica.Sessions)
	}
	if o.Propose == nil {
		o.Propose = func(replica.Proposal) {}
	}
	if o.LagMax <= 0 {
		o.LagMax = 10 * time.Second
	}
	if o.Uptime == nil {
		o.Uptime = Uptime
	}
	if o.Vouched == nil {
		o.Vouched = func() time.Duration { return replica.Never }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	return o
}

type unobserved struct{}

func (unobserved) Appended(int, int, int)  {}
func (unobserved) AppendFailed(int, error) {}
func (unobserved) Quarantined(error)       {}
func (unobserved) LogFailed(error)         {}
func (unobserved) Followed(int)            {}
func (unobserved) Lost(record.Offset)      {}

func (unobserved) HandedOver(time.Duration, bool) {}

// State is a partition at a glance, not newer than the call. Ends are
// exclusive.
type State struct {
	// LogStart is the first offset kept.
	LogStart record.Offset
	// End is the offset after the last record written.
	End record.Offset
	// SyncedEnd is the offset after the last record on disk.
	SyncedEnd record.Offset
	// HighWatermark is the readable end: what is committed and may be read
	// here.
	HighWatermark record.Offset
	// LeaderEpoch is the last one heard of; -1: none.
	LeaderEpoch record.LeaderEpoch
	// Leader is who leads; replica.None: nobody, or not known.
	Leader replica.ID
	// Leading says whether this broker leads and takes writes.
	Leading bool
	// InSync is the number of replicas in the committed ISR, if Leading.
	InSync int
	// Bytes of the log's segments.
	Bytes int64
	// Segments of the log.
	Segments int
	// Offline is why the partition takes no writes, or nil: ErrClosed,
	// *FailedError, *QuarantinedError, *NotLeaderError.
	Offline error
}
