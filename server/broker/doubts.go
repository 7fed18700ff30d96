package broker

import (
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// A replica is doubtful whose log is damaged, or has a torn tail that may have
// been acknowledged: the controller is told, and counts on it no longer (rule
// H4).
//
// Damage stays until the log is replaced. A torn tail goes when it is cut, and
// with it all that says that something was there; the broker may be killed, or
// lose its power again, before the controller has heard of it. So the tail
// itself is what the doubt is remembered by:
//
// INVARIANT: a tail that may have been acknowledged is cut only
//
//   - where the metadata since the registration does not count on this replica:
//     it is counted on again when it has caught up, or on what it reports; or
//   - when the controller has answered this process that the replica is doubtful,
//     and what it has made of that has come with the metadata; or
//   - where nobody else holds the partition.
//
// Until then the log is not opened, so it is neither led, read nor followed
// with, whatever the metadata says.
//
// Partitions of durability memory need none of this: the controller distrusts
// them when the broker registers after another boot, and only then does the
// incarnation record say this one. Whoever ends before registers as before.

// errUntold says that a log is not opened before the controller knows that it
// is doubtful.
var errUntold = errors.New("a torn tail that may have been acknowledged is not cut before the controller knows of it")

// reportsAtOnce is how many logs one heartbeat tells of.
const reportsAtOnce = 1000

// doubts are the doubtful logs of which the controller is to be told, and those
// for which what it makes of that is awaited. A log that awaits it is not added
// again.
type doubts struct {
	mu     sync.Mutex // guards what follows; nothing else is done under it
	untold []doubt
	told   []toldDoubt
}

// doubt is a log that is doubtful.
type doubt struct {
	log    *localLog
	report *controllerv1.RecoveredLog
}

// toldDoubt is a log that the controller was told of, and the metadata that
// says what it has made of that.
type toldDoubt struct {
	log        *localLog
	generation uint32
	revision   int64
}

// next returns what the next heartbeat is to tell.
func (d *doubts) next() []*controllerv1.RecoveredLog {
	d.mu.Lock()
	defer d.mu.Unlock()
	var logs []*controllerv1.RecoveredLog
	for _, x := range d.untold[:min(len(d.untold), reportsAtOnce)] {
		logs = append(logs, x.report)
	}
	return logs
}

// answered says that a heartbeat with the first n was answered, at a revision.
func (d *doubts) answered(n int, generation uint32, revision int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.untold[:n] {
		d.told = append(d.told, toldDoubt{x.log, generation, revision})
	}
	d.untold = d.untold[n:]
}

// settled takes those out of which the metadata is there. A later generation
// trusts no log that it was not told of.
func (d *doubts) settled(s *metadata.Snapshot) []*localLog {
	d.mu.Lock()
	defer d.mu.Unlock()
	var logs []*localLog
	var rest []toldDoubt
	for _, x := range d.told {
		if s.Generation > x.generation || s.Generation == x.generation && s.Revision >= x.revision {
			logs = append(logs, x.log)
		} else {
			rest = append(rest, x)
		}
	}
	d.told = rest
	return logs
}

// doubtsIn returns how many doubts a heartbeat tells of: it has nothing else
// of logs then.
func doubtsIn(req *controllerv1.HeartbeatRequest) int {
	if logs := req.GetRecoveredLogs(); len(logs) > 0 && logs[0].GetDoubtful() {
		return len(logs)
	}
	return 0
}

// doubt has the next heartbeat tell the controller that a replica is not what
// it was taken for, and how far it goes. It may be called by anybody, and does
// not block.
func (b *Broker) doubt(l *localLog, end record.Offset, last record.LeaderEpoch) {
	b.doubtAs(l, &controllerv1.RecoveredLog{End: int64(end), LastLeaderEpoch: max(0, int32(last))})
}

// doubtAs is doubt, with what is known of the log.
func (b *Broker) doubtAs(l *localLog, r *controllerv1.RecoveredLog) {
	l.mu.Lock()
	known := l.doubted
	l.doubted = true
	l.mu.Unlock()
	if known {
		return
	}
	topic := l.key.topic
	r.TopicId, r.Partition, r.Doubtful = topic[:], uint32(l.key.partition), true
	b.doubts.mu.Lock()
	b.doubts.untold = append(b.doubts.untold, doubt{l, r})
	b.doubts.mu.Unlock()
	b.beatNow()
}

// doubtOpen is doubt of a log that is open, or, with nil, of one that cannot be.
func (b *Broker) doubtOpen(l *localLog, p *partition.Partition) {
	if p == nil {
		b.doubtAs(l, &controllerv1.RecoveredLog{Unreadable: true})
		return
	}
	end := p.State().End
	b.doubt(l, end, p.EpochBefore(end))
}

// beforeCut lets a torn tail be cut, or has the controller told first. It is
// asked while a log is opened as the metadata wants it.
func (l *localLog) beforeCut(w *wanted, torn commitlog.TornTail) error {
	l.mu.Lock()
	told := l.told
	l.mu.Unlock()
	if told || len(w.part.Replicas) < 2 || !w.counted(l.b.opts.ID) {
		return nil
	}
	l.b.doubt(l, torn.End, torn.LastEpoch)
	return errUntold
}

// awaitsAnswer tells whether the controller has not said yet what it makes of
// the log: it is opened when it has.
func (l *localLog) awaitsAnswer() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubted
}

// settleDoubts opens the logs of which the controller knows by now that they
// are doubtful, once the metadata says what it has made of that.
func (b *Broker) settleDoubts() {
	logs := b.doubts.settled(b.mirror.Current())
	if len(logs) == 0 {
		return
	}
	b.errand.add(func() {
		var opens errgroup.Group
		opens.SetLimit(opensAtOnce)
		for _, l := range logs {
			opens.Go(func() error {
				b.openTold(l)
				return nil
			})
		}
		_ = opens.Wait() // none returns one
	})
}

// openTold opens a log whose torn tail may be cut, under the metadata of now:
// what is wanted of it may be older than the answer, and have it led.
func (b *Broker) openTold(l *localLog) {
	s := b.mirror.Current()
	t := s.TopicByID(metadata.TopicID(l.key.topic))
	if t == nil {
		return // it is about to be removed
	}
	part := t.Partition(uint32(l.key.partition))
	if part == nil {
		return
	}
	l.update(&wanted{s.Generation, t, part})
	for {
		l.mu.Lock()
		l.told, l.doubted, l.refused = true, false, nil
		l.mu.Unlock()
		// WHY again: somebody may have begun to open it before, and waited for.
		if _, err := l.partition(); !errors.Is(err, errUntold) {
			return
		}
	}
}
