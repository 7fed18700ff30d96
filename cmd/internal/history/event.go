package history

// Version is the version of the format that is written and read.
const Version = 1

// Kind says what happened.
type Kind string

// What clients record. An append is invoked and then completed once: ok, fail
// (certainly not appended) or unknown.
const (
	AppendInvoke  Kind = "append.invoke"
	AppendOK      Kind = "append.ok"
	AppendFail    Kind = "append.fail"
	AppendUnknown Kind = "append.unknown"
	// ReadBegin says that a reader takes a position.
	ReadBegin Kind = "read.begin"
	// ReadOK is a frame of batches.
	ReadOK Kind = "read.ok"
	// ReadEnd says that the reader was told that it is at the end.
	ReadEnd Kind = "read.end"
	// ReadFail ends the read with an error.
	ReadFail Kind = "read.fail"
	// SettingsInvoke asks for another setting of a topic; it is completed once, as
	// an append is.
	SettingsInvoke  Kind = "settings.invoke"
	SettingsOK      Kind = "settings.ok"
	SettingsFail    Kind = "settings.fail"
	SettingsUnknown Kind = "settings.unknown"
	// TopicRead says what a client was told of a topic.
	TopicRead Kind = "topic.read"
)

// What brokers record.
const (
	BrokerStart   Kind = "broker.start"
	BrokerStop    Kind = "broker.stop"
	LeaderBegin   Kind = "leader.begin"
	LeaderEnd     Kind = "leader.end"
	HighWatermark Kind = "hw"
	ISR           Kind = "isr"
	// ReplicaHeard says that a leader was told by another replica where its log
	// stands, as it opened a session: that counts, and nothing it said before.
	ReplicaHeard Kind = "replica.heard"
	// LogWritten and LogSynced say how far the log is written, and is on disk.
	LogWritten Kind = "log.written"
	LogSynced  Kind = "log.synced"
	// LogTruncated says that a replica gave up what another leader does not have.
	LogTruncated Kind = "log.truncated"
	// LogCut says that recovery cut a torn tail.
	LogCut Kind = "log.cut"
	// LogStart says that the first offset kept has moved.
	LogStart Kind = "log.start"
	// LogGone says that the log of a replica was put away as a whole, since others
	// have its records: it was moved to another broker, or is damaged. The broker
	// may begin another.
	LogGone Kind = "log.gone"
	// LogDump is a piece of the log of a replica as it is at the end.
	LogDump Kind = "log.dump"
	// MetadataTold says what a broker was told of the metadata, before it acts on
	// it.
	MetadataTold Kind = "metadata"
)

// What whoever drives the run records, and what every recorder does.
const (
	FaultBegin    Kind = "fault.begin"
	FaultEnd      Kind = "fault.end"
	RecorderBegin Kind = "recorder.begin" // the first line of each file
	RecorderEnd   Kind = "recorder.end"   // the last of a recorder that was closed
)

// Event is one line of a history. Which of the fields an event of a kind has,
// the page of the format says.
type Event struct {
	Kind Kind `json:"kind"`
	// T is a time in ns that never goes back, of one clock for all recorders of
	// a run (CLOCK_MONOTONIC of the host; the clock of a simulation).
	T int64 `json:"t,omitempty"`
	// Wall is the wall clock in ms, for people.
	Wall int64 `json:"wall,omitempty"`

	// Topic names a topic for ever: if topics are deleted and created again, it
	// is their identity.
	Topic     string `json:"topic,omitempty"`
	Partition uint32 `json:"partition,omitempty"`
	// Op is the number of an append, unique in its recorder.
	Op uint64 `json:"op,omitempty"`
	// Reason of what failed, was cut, moved or broken.
	Reason string `json:"reason,omitempty"`

	Append   *Append   `json:"append,omitempty"`
	Ack      *Ack      `json:"ack,omitempty"`
	Read     *Read     `json:"read,omitempty"`
	Batches  []Batch   `json:"batches,omitempty"`
	Replica  *Replica  `json:"replica,omitempty"`
	Metadata *Metadata `json:"metadata,omitempty"`
	Settings *Settings `json:"settings,omitempty"`
	Fault    *Fault    `json:"fault,omitempty"`
	Recorder *Recorder `json:"recorder,omitempty"`

	// At is where the event stands; set by whoever reads it.
	At Location `json:"-"`
}

// needed tells whether the loss of the event could make a sound history look
// broken, so that it has to be in the file before its effect is seen: an append
// that others may read, settings that others may be told of, the end of a read,
// and all that brokers say of replicas but for the last dump. The loss of an
// answer, of a frame or of what somebody was told only leaves less to check.
func (e *Event) needed() bool {
	switch e.Kind {
	case AppendOK, AppendFail, AppendUnknown, ReadBegin, ReadOK, ReadFail, LogDump,
		SettingsOK, SettingsFail, SettingsUnknown, TopicRead, MetadataTold:
		return false
	default:
		return true
	}
}

// Content is what is in a batch of records.
type Content struct {
	// N is the number of records.
	N uint32 `json:"n"`
	// Digest of the whole; see Sum.
	Digest Digest `json:"digest"`
	// Digests of the records, in a topic whose readers see records and not
	// batches. All recorders of a topic give them, or none does.
	Digests []Digest `json:"digests,omitempty"`
}

// Acks says who is asked to have a batch, as the API does.
type Acks string

// What may be asked for.
const (
	AcksAll    Acks = "all"
	AcksLeader Acks = "leader"
	AcksNone   Acks = "none"
)

// Append asks for a batch to be appended.
type Append struct {
	Content
	// ID names the batch for people.
	ID string `json:"id,omitempty"`
	// Session is what keeps order: of two appends of a session to a partition,
	// the one of the lower Op comes first. 0: no order is promised.
	Session uint64 `json:"session,omitempty"`
	Acks    Acks   `json:"acks"`
	// Tries is how often it may be sent under this Op; 0 means 1. A client that
	// sends it again as another Op records that with the same digest.
	Tries uint32 `json:"tries,omitempty"`
}

// Scope says who has an acknowledged batch.
type Scope string

// The scopes.
const (
	ScopeNone   Scope = "none"
	ScopeLeader Scope = "leader"
	ScopeISR    Scope = "isr"
)

// Medium says where they have it.
type Medium string

// The media.
const (
	MediumNone   Medium = "none"
	MediumMemory Medium = "memory"
	MediumDisk   Medium = "disk"
)

// Ack is what an acknowledgement says.
type Ack struct {
	Scope  Scope  `json:"scope"`
	Medium Medium `json:"medium"`
	InSync uint32 `json:"in_sync"`
	// Base is the offset of the first record; meaningless at ScopeNone.
	Base int64 `json:"base"`
	// Epoch of the leader that appended.
	Epoch int32 `json:"epoch"`
	// Leader is its broker, where the client knows it.
	Leader *int32 `json:"leader,omitempty"`
}

// Position says how a reader chose where to begin.
type Position string

// The positions. The zero value is an offset.
const (
	AtOffset   Position = ""
	AtEarliest Position = "earliest"
	AtLatest   Position = "latest"
	AtOther    Position = "other" // a time, so many before the end
)

// Read is about a reader of one partition.
type Read struct {
	// Reader is the number of the reader, unique in its recorder. One that
	// begins again goes on where it was, unless it seeks.
	Reader uint64 `json:"reader"`

	// ReadBegin: where, and whether that is another place than it had reached;
	// whether it finishes at the end as it was when it began; whether it is the
	// last one, which looks for everything.
	Position Position `json:"position,omitempty"`
	Seek     bool     `json:"seek,omitempty"`
	UntilEnd bool     `json:"until_end,omitempty"`
	Drain    bool     `json:"drain,omitempty"`

	// From is the offset asked for (ReadBegin) or the first that a frame is
	// about (ReadOK), Next where the next frame begins.
	From int64 `json:"from,omitempty"`
	Next int64 `json:"next,omitempty"`
	// HighWatermark and LogStart as the frame says them.
	HighWatermark int64 `json:"hw,omitempty"`
	LogStart      int64 `json:"log_start,omitempty"`

	// ReadEnd: whether the read is over.
	Finished bool `json:"finished,omitempty"`
}

// Batch is a batch at its place.
type Batch struct {
	Base  int64 `json:"base"`
	Epoch int32 `json:"epoch"`
	// CRC of the stored bytes, which replicas have in common; 0: not known.
	CRC uint32 `json:"crc,omitempty"`
	// Control says that it holds no records of clients.
	Control bool `json:"control,omitempty"`
	Content
}

// Replica is what a broker says of its replica of a partition.
type Replica struct {
	// Epoch is the leader epoch.
	Epoch int32 `json:"epoch,omitempty"`
	// PartitionEpoch is the version of the record of the partition that the broker
	// goes by (LeaderBegin, ISR); 0: not known.
	PartitionEpoch int32 `json:"partition_epoch,omitempty"`
	// HighWatermark as the broker knows it.
	HighWatermark int64 `json:"hw,omitempty"`
	// End of what is written, is synced, was dumped.
	End int64 `json:"end,omitempty"`
	// Start of the log; CleanEnd is how far it was compacted.
	Start    int64 `json:"start,omitempty"`
	CleanEnd int64 `json:"clean_end,omitempty"`
	// Of is whose replica it is about (ReplicaHeard).
	Of int32 `json:"of,omitempty"`
	// From and To of a truncation or a cut: the log ended at From, and ends at To.
	From int64 `json:"from,omitempty"`
	To   int64 `json:"to,omitempty"`

	// ISR is the committed in-sync set, MinISR the effective least number, and
	// Medium what the topic asks for (LeaderBegin, ISR).
	ISR    []int32 `json:"isr,omitempty"`
	MinISR uint32  `json:"min_isr,omitempty"`
	Medium Medium  `json:"medium,omitempty"`

	// InSync says of a dump that the replica has to be complete, Last that the
	// dump ends with this event.
	InSync bool `json:"in_sync,omitempty"`
	Last   bool `json:"last,omitempty"`
}

// FaultKind says what was done to a broker.
type FaultKind string

// The faults that change what has to be there afterwards; others have names of
// the driver's choice.
const (
	// FaultPower takes what is not synced.
	FaultPower FaultKind = "power"
	// FaultOff follows it: the broker has no power now, and says nothing until it
	// begins again.
	FaultOff FaultKind = "off"
	// FaultDisk takes or damages what is synced.
	FaultDisk FaultKind = "disk"
	// FaultKill is kill -9: the page cache stays.
	FaultKill FaultKind = "kill"
)

// Fault is something that was done to a broker or to the network.
type Fault struct {
	Kind   FaultKind `json:"kind"`
	Broker int32     `json:"broker,omitempty"`
}

// Role says who records.
type Role string

// The roles.
const (
	RoleClient Role = "client"
	RoleBroker Role = "broker"
	// RoleDriver starts, breaks and heals.
	RoleDriver Role = "driver"
)

// Recorder is who wrote a file.
type Recorder struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Role    Role   `json:"role"`
	Broker  int32  `json:"broker,omitempty"`
	// Run tells histories apart; all files of a directory have the same.
	Run string `json:"run,omitempty"`
	// File counts the files of the recorder from 0.
	File uint32 `json:"file"`
}

// Location is where an event stands.
type Location struct {
	Source uint16 // index of the recorder
	File   uint16 // number of its file
	Line   uint32 // from 1; 0 is nowhere
}
