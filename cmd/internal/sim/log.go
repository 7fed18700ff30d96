package sim

import (
	"math"
	"sort"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// entry is a batch of one record.
type entry struct {
	epoch record.LeaderEpoch
	value uint64
	// committed is the leader's high watermark when it appended the batch.
	committed record.Offset
}

// entryBytes is what an entry counts for in credit.
const entryBytes = 100

const never = record.Offset(math.MaxInt64)

// log is a log as a list, with a disk below it. It is a replica.History.
type log struct {
	entries []entry            // by offset; what is below start is not there
	start   record.Offset      // at most the end
	before  record.LeaderEpoch // of the last record let go, or NoEpoch
	synced  record.Offset
	cuts    int // truncations so far
	// doomed is where begins what a failed sync took from the disk while memory
	// still has it: no later sync brings it there.
	doomed record.Offset
	torn   bool // recovery found half a batch, and cut it
}

func newLog() *log { return &log{before: replica.NoEpoch, doomed: never} }

// Start, Begin, End, LastEpoch and EpochEnd are those of replica.History. Each
// record is a batch.
func (l *log) Start() record.Offset { return l.start }

func (l *log) Begin() record.Offset { return l.start }

func (l *log) End() record.Offset { return record.Offset(len(l.entries)) }

func (l *log) LastEpoch() record.LeaderEpoch {
	if l.start == l.End() {
		return l.before
	}
	return l.entries[len(l.entries)-1].epoch
}

func (l *log) EpochEnd(e record.LeaderEpoch) (record.LeaderEpoch, record.Offset) {
	kept := l.entries[l.start:]
	n := sort.Search(len(kept), func(i int) bool { return kept[i].epoch > e })
	switch {
	case n == 0 && len(kept) == 0 && l.before <= e:
		return l.before, l.start
	case n == 0:
		return replica.NoEpoch, l.start
	}
	return kept[n-1].epoch, l.start + record.Offset(n)
}

// has tells whether a value stands at an offset.
func (l *log) has(at record.Offset, value uint64) bool {
	return at >= l.start && at < l.End() && l.entries[at].value == value
}

// letGo removes what is below an offset.
func (l *log) letGo(below record.Offset) {
	if below = min(below, l.End()); below > l.start {
		l.start, l.before = below, l.entries[below-1].epoch
	}
}

// begin removes everything, and begins again at an offset.
func (l *log) begin(at record.Offset) {
	l.entries, l.start, l.before, l.synced = make([]entry, at), at, replica.NoEpoch, at
	l.cuts++
	l.doomed = never
}

// progress is how far the process that writes the log thinks it is.
func (l *log) progress() replica.Progress {
	return replica.Progress{End: l.End(), SyncedEnd: l.synced}
}

// holds is how far the log survives what may happen at a durability.
func (l *log) holds(d replica.Durability) record.Offset {
	if d == replica.Memory {
		return l.End()
	}
	return min(l.synced, l.doomed)
}

// committed is the high watermark that the log itself tells.
func (l *log) committed() record.Offset {
	var end record.Offset
	for _, e := range l.entries[l.start:] {
		end = max(end, e.committed)
	}
	return min(end, l.End())
}

func (l *log) truncate(to record.Offset) {
	l.entries = l.entries[:to:to]
	if to < l.start {
		l.start, l.before = to, replica.NoEpoch
	}
	l.synced = min(l.synced, to)
	l.cuts++
	if to <= l.doomed {
		l.doomed = never // the pages are written again
	}
}

// rewriteTail is what recovery has to do with what a process left in memory
// alone: a sync may have failed just before its end, after which the kernel
// takes the pages for written. Written again, they are dirty again.
func (l *log) rewriteTail() { l.doomed = never }

// losePower leaves what is on the disk, and of the rest what happened to get
// there: from the beginning, perhaps with half a batch at the end.
func (l *log) losePower(w *world) {
	end, keep := l.End(), max(l.start, min(l.synced, l.doomed))
	if most := min(end, l.doomed); most > keep {
		keep += record.Offset(w.roll(int(most-keep) + 1))
	}
	l.torn = keep < end && w.roll(3) == 0
	l.truncate(keep)
	l.synced, l.doomed = keep, never
}
