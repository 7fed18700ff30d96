package commitlog

import (
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// NoEpoch is the leader epoch of a log without records.
const NoEpoch = segment.NoEpoch

// Log is the log of one partition. The package comment says who may call what.
type Log struct {
	o      Options
	shared segment.Options
	logger *slog.Logger
	config atomic.Pointer[Config]

	// What readers see. The writer stores them; see the package comment for
	// their order.
	view      atomic.Pointer[view]
	start     atomic.Int64
	end       atomic.Int64
	syncedEnd atomic.Int64 // stored under marks, by who synced
	size      atomic.Int64 // bytes of all segments

	closed  atomic.Bool
	failed  atomic.Pointer[FailedError]
	damaged *segment.CorruptError // fixed at Open; what is at End and beyond is not readable
	// withheld is why nothing is written until the log is opened again, though it
	// has not failed; nil: it is written to. Fixed at Open.
	withheld *WriteError
	writing  atomic.Bool // a writer's call is under way

	marks    marks
	waste    waste
	removing sync.Mutex // held while files of waste are removed

	// The writer's.
	active *segment.Segment // nil: the next append makes one
	before segment.Point    // the end of the log, while active is nil
	// nextStart is the log start that checkpoints say: start, or what start
	// will be once that is durable.
	nextStart record.Offset
	stored    []byte // scratch: the checkpoint
	// lasting are the facts of the checkpoint stored last that count after a
	// power loss, if one was.
	lasting    facts
	hasLasting bool
	unsettled  bool // the stored checkpoint says so: see facts
	// recovered is RecoveredEnd.
	recovered record.Offset
	begin     beginning

	// slots is the open checkpoint file; nil: it is not open. The writer opens
	// and closes it. slotSync holds a token while someone syncs it.
	slots    atomic.Pointer[checkpoint.Slots]
	slotSync chan struct{}
	// saying holds a token while SyncCheckpoint runs.
	saying chan struct{}
	// slotsUnsynced is how a sync of them failed, after which there is no other;
	// guarded by slotSync.
	slotsUnsynced error
	unsaid        atomic.Bool // a checkpoint with other lasting facts was stored since one was synced
	named         atomic.Bool // the name of the checkpoint file is durable

	epochsUnsynced atomic.Bool // the history of epochs was stored since it was synced
}

// view is what the log consists of. It is never changed.
type view struct {
	segments []*segment.Segment // in order of offsets; each ends where the next begins
	epochs   []segment.EpochStart
}

// mark is the end of the log at some time, and what recovery must know there.
type mark struct {
	base record.Offset // of the segment
	at   segment.Point
	// epochStart is where the leader epoch of the last record begins.
	epochStart record.Offset
}

// marks are the ends of the log, as a pair that belongs together.
type marks struct {
	sync.Mutex      // guards all; never held across I/O
	written, synced mark
	// cut counts truncations: a sync that began before one says nothing of the
	// end after it.
	cut uint64
}

// Start is the offset of the first record that may be read.
func (l *Log) Start() record.Offset { return record.Offset(l.start.Load()) }

// beginning is the log start, and where the batch begins that holds it.
type beginning struct {
	start, batch record.Offset
	known        bool
}

// Begin is the base offset of the batch that holds the first record: Start, or an
// offset before it. It has to be read once for each log start; where that cannot
// be it is Start.
//
// REQUIRES: called by the writer.
func (l *Log) Begin() record.Offset {
	b := &l.begin
	start := l.Start()
	if b.known && b.start == start {
		return b.batch
	}
	batch := start
	if end := l.End(); start > l.FirstBase() && start < end {
		g, err := l.NewReader().Read(start, end, 1, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			return start
		}
		batch = g.First
	}
	*b = beginning{start: start, batch: batch, known: true}
	return batch
}

// End is the offset after the last record that was written.
func (l *Log) End() record.Offset { return record.Offset(l.end.Load()) }

// SyncedEnd is the offset below which all is on the disk, as far as this
// process knows.
func (l *Log) SyncedEnd() record.Offset { return record.Offset(l.syncedEnd.Load()) }

// LastEpoch is the leader epoch of the last record, or NoEpoch.
func (l *Log) LastEpoch() record.LeaderEpoch { return l.view.Load().lastEpoch() }

// Size is the length of all segments in bytes.
func (l *Log) Size() int64 { return l.size.Load() }

// Segments is the number of segments.
func (l *Log) Segments() int { return len(l.view.Load().segments) }

// Config returns the settings.
func (l *Log) Config() Config { return *l.config.Load() }

// SetConfig changes the settings. It may be called beside everything.
func (l *Log) SetConfig(c Config) {
	c = c.withDefaults()
	l.config.Store(&c)
}

// Failed says why nothing is written any more, as a *FailedError; nil: it is.
func (l *Log) Failed() error {
	if f := l.failed.Load(); f != nil {
		return f
	}
	return nil
}

// Withheld says why nothing is written to the log until it is opened again, as a
// *WriteError: recovery found something to do on a file system that could not be
// written to. What it has can be read. nil: it is written to.
func (l *Log) Withheld() error {
	if l.withheld != nil {
		return l.withheld
	}
	return nil
}

// fail makes the log refuse all writing from now on, and returns why. The
// first reason stays.
func (l *Log) fail(cause error) error {
	if l.failed.CompareAndSwap(nil, &FailedError{Cause: cause}) {
		l.logger.Error("log failed", "err", cause)
	}
	return l.failed.Load()
}

// enter begins a call of the writer's.
func (l *Log) enter() error {
	if !l.writing.CompareAndSwap(false, true) {
		panic("commitlog: two writers of one log")
	}
	if l.closed.Load() {
		l.writing.Store(false)
		return ErrClosed
	}
	return nil
}

func (l *Log) leave() { l.writing.Store(false) }

// writable says why nothing may be written.
func (l *Log) writable() error {
	if f := l.failed.Load(); f != nil {
		return f
	}
	return l.Withheld()
}

// find returns the segment that holds off, which is the last one with a base
// at or below it; nil if off is before all.
func (v *view) find(off record.Offset) *segment.Segment {
	i := sort.Search(len(v.segments), func(i int) bool { return v.segments[i].Base() > off })
	if i == 0 {
		return nil
	}
	return v.segments[i-1]
}

// last returns the last segment; nil if there is none.
func (v *view) last() *segment.Segment {
	if len(v.segments) == 0 {
		return nil
	}
	return v.segments[len(v.segments)-1]
}

// point is the end of the log as the writer knows it.
func (l *Log) point() segment.Point {
	if l.active != nil {
		return l.active.At()
	}
	return l.before
}

// FirstBase is the base offset of the first segment; 0 if there is none.
func (l *Log) FirstBase() record.Offset {
	if v := l.view.Load(); len(v.segments) > 0 {
		return v.segments[0].Base()
	}
	return 0
}

// LastBase is the base offset of the last segment; 0 if there is none.
func (l *Log) LastBase() record.Offset {
	if s := l.view.Load().last(); s != nil {
		return s.Base()
	}
	return 0
}
