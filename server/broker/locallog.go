package broker

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/server/follower"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/server/topicconfig"
	"github.com/millstream-io/millstream/storage/commitlog"
)

// localLog is a log that this broker holds, open or not.
//
// Whoever needs it first opens it; others wait. What the metadata wants of it
// is stored before it is carried out, and carrying out is fenced by epochs, so
// it does not matter who does it, how often, or in which order.
type localLog struct {
	b   *Broker
	key logKey

	want    atomic.Pointer[wanted]              // never nil
	carried atomic.Pointer[wanted]              // what was carried out last on the open log
	opened  atomic.Pointer[partition.Partition] // nil: not open yet; closed ones stay

	carrying sync.Mutex     // held while what is wanted is carried out; guards link
	link     *follower.Link // to the leader that is followed; nil: nobody is

	mu      sync.Mutex // guards what follows; nothing else is done under it
	opening *opening   // nil: nobody opens it
	refused *refusal   // nil: the last attempt to open it did not fail
	gone    bool       // it is not to be opened any more
	// doubted says that the controller is to be told that the replica is
	// doubtful; told that it has answered, and that want is not older than what
	// it has made of that.
	doubted, told bool
}

// wanted is what the metadata says of a log.
type wanted struct {
	generation uint32 // of the cluster, which qualifies the revisions
	topic      *metadata.Topic
	part       *metadata.Partition
}

// newer tells whether w says something that other does not know yet.
func (w *wanted) newer(other *wanted) bool {
	if w.generation != other.generation {
		return w.generation > other.generation
	}
	if w.part.Revision < other.part.Revision || w.topic.Revision < other.topic.Revision {
		return false
	}
	return w.part.Revision > other.part.Revision || w.topic.Revision > other.topic.Revision
}

// opening is one attempt to open a log.
type opening struct {
	done chan struct{} // closed when p and err are set
	p    *partition.Partition
	err  error
}

// partition returns the open partition, on which what the metadata says has
// been carried out, and opens it if needed.
func (l *localLog) partition() (*partition.Partition, error) {
	p, err := l.open()
	if err == nil && l.carried.Load() != l.want.Load() {
		// Somebody stored it and is about to. WHY not leave it to them: whoever
		// asks now would find a partition that does not lead yet.
		l.align()
	}
	return p, err
}

// open returns the open partition, and opens it if needed.
func (l *localLog) open() (*partition.Partition, error) {
	if p := l.opened.Load(); p != nil {
		return p, nil
	}
	now := l.b.opts.Now()
	l.mu.Lock()
	if p := l.opened.Load(); p != nil || l.gone {
		l.mu.Unlock()
		if p == nil {
			return nil, partition.ErrClosed
		}
		return p, nil
	}
	o := l.opening
	if o != nil {
		l.mu.Unlock()
		<-o.done
		return o.p, o.err
	}
	before, under := l.refused, circumstances{want: l.want.Load(), identity: l.b.identity.Load()}
	if before.stands(under, now) {
		l.mu.Unlock()
		l.b.metrics.openRefusals.Inc()
		return nil, before.err
	}
	o = &opening{done: make(chan struct{})}
	l.opening = o
	l.mu.Unlock()

	o.p, o.err = l.openLog(under)
	var refused *refusal
	if o.err != nil {
		refused = before.again(o.err, under, l.b.opts.Now())
	}

	l.mu.Lock()
	l.opening, l.refused = nil, refused
	if o.err == nil {
		l.opened.Store(o.p)
	}
	l.mu.Unlock()
	close(o.done)
	if o.err == nil {
		l.align()                                  // what came while it was opened
		if err := l.b.failure.Load(); err != nil { // or failed meanwhile
			o.p.Fail(*err)
		}
	}
	return o.p, o.err
}

// openLog opens the log and begins to lead it, if that is wanted.
func (l *localLog) openLog(under circumstances) (*partition.Partition, error) {
	b, w, inc := l.b, under.want, under.identity
	if err := b.Failure(); err != nil {
		return nil, &partition.FailedError{Cause: err}
	}
	if have := inc.DirectoryID; !w.holds(b.opts.ID, have) && w.counted(b.opts.ID) {
		return nil, &partition.FailedError{Cause: &MisplacedError{Have: have, Want: w.directory(b.opts.ID)}}
	}
	logger := b.logger.With("topic", w.topic.Name, "partition", w.part.ID)
	begun := time.Now()
	log, rec, err := commitlog.Open(commitlog.Options{
		FS: b.opts.FS, Dir: b.dir.logPath(l.key), ClusterID: inc.ClusterID, TopicID: l.key.topic, Partition: l.key.partition,
		Config: logConfig(&w.topic.Config), Files: b.files, BootID: b.opts.BootID(), Now: b.opts.Now, Logger: logger, Observer: observer{b, l},
		BeforeCut: func(torn commitlog.TornTail) error { return l.beforeCut(w, torn) },
	})
	if errors.Is(err, errUntold) {
		logger.Warn("log not opened yet", "err", err)
		return nil, err
	}
	b.metrics.opened(time.Since(begun), err)
	if err != nil {
		logger.Error("log not opened", "err", err)
		if wasRefused(err) {
			return nil, err
		}
		b.damaged(l)
		return nil, &partition.FailedError{Cause: err}
	}
	if rec.TailCut {
		b.metrics.tailCut.Inc()
	}
	if rec.Damaged != nil {
		b.metrics.quarantined.Inc()
	}
	var auditor partition.Auditor
	if b.opts.Audit != nil {
		auditor = b.opts.Audit(w.topic.Name, w.part.ID)
	}
	p := partition.New(partition.Options{
		Auditor: auditor,
		Log:     log, Damage: damageOf(rec), Self: replica.ID(b.opts.ID), Flusher: b.flusher, Observer: observer{b, l},
		Settings: settings(&w.topic.Config), Limits: b.opts.Mailbox, IdleAfter: b.opts.IdleAfter, Now: b.opts.Now, Logger: logger,
		Sessions: &b.sessions, LagMax: b.opts.ReplicaLag, Vouched: b.vouched.time, Propose: func(p replica.Proposal) { b.want(l, p) },
		Away:     func(id replica.ID) bool { return b.pusher.Away(int32(id)) },
		Impaired: func(id replica.ID) bool { return b.mirror.Current().Impaired(int32(id)) },
	})
	if len(w.part.Replicas) > 1 && rec.Damaged != nil && w.others(b.opts.ID) && w.counted(b.opts.ID) {
		b.doubtOpen(l, p)
	}
	return p, nil
}

// damageOf returns what recovery found, as an error or a nil one.
func damageOf(rec commitlog.Recovery) error {
	if rec.Damaged == nil {
		return nil
	}
	return rec.Damaged
}

// update stores what the metadata says, if that is news, and carries it out.
func (l *localLog) update(next *wanted) {
	for {
		cur := l.want.Load()
		if !next.newer(cur) {
			return
		}
		if l.want.CompareAndSwap(cur, next) {
			l.align()
			return
		}
	}
}

// align carries out what is wanted, on a log that is open, until that is what
// is wanted still: who began with something older sets it right again.
func (l *localLog) align() {
	p := l.opened.Load()
	if p == nil {
		return
	}
	// WHY a lock: two that carry out, one of them something older, would leave
	// the link to the older leader.
	l.carrying.Lock()
	defer l.carrying.Unlock()
	for {
		w := l.want.Load()
		if l.carried.Load() == w {
			return
		}
		p.SetSettings(settings(&w.topic.Config))
		p.SetLogConfig(logConfig(&w.topic.Config))
		if !l.carryOut(p, w) {
			return // realign does it if this broker turns out to be meant
		}
		l.carried.Store(w)
		if p.Quarantined() {
			l.b.damaged(l)
		}
	}
}

// close closes the log for good. It waits for whoever opens it.
func (l *localLog) close() error {
	l.mu.Lock()
	l.gone = true
	o := l.opening
	l.mu.Unlock()
	if o != nil {
		<-o.done
	}
	p := l.opened.Load()
	if p == nil {
		return nil
	}
	l.carrying.Lock()
	l.unlink(-1)
	l.carrying.Unlock()
	if err := p.Close(); !errors.Is(err, partition.ErrClosed) {
		return err
	}
	return nil
}

func (l *localLog) fail(cause error) {
	if p := l.opened.Load(); p != nil {
		p.Fail(cause)
	}
}

// holds tells whether the metadata has the replica of a broker in a directory.
// A record without directories does not say.
func (w *wanted) holds(broker int32, dir ID16) bool { return holds(w.part, broker, dir) }

func (w *wanted) directory(broker int32) ID16 { return directoryOf(w.part, broker) }

func holds(p *metadata.Partition, broker int32, dir ID16) bool {
	want := directoryOf(p, broker)
	return want == dir || want == ID16{}
}

func directoryOf(p *metadata.Partition, broker int32) ID16 {
	i := slices.Index(p.Replicas, broker)
	if i < 0 || i >= len(p.Directories) {
		return ID16{}
	}
	return ID16(p.Directories[i])
}

func ids(brokers []int32) []replica.ID {
	out := make([]replica.ID, len(brokers))
	for i, id := range brokers {
		out[i] = replica.ID(id)
	}
	return out
}

func settings(c *topicconfig.Config) partition.Settings {
	return partition.Settings{
		AppendTime: c.TimestampType == topicconfig.TimestampAppend,
		MaxAheadMs: c.TimestampMaxAheadMs,
	}
}

func logConfig(c *topicconfig.Config) commitlog.Config {
	return commitlog.Config{
		SegmentBytes: c.SegmentBytes, SegmentAge: ms(c.SegmentMs),
		RetentionBytes: max(0, c.RetentionBytes), RetentionAge: max(0, ms(c.RetentionMs)),
	}
}

func ms(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(n, most)) * time.Millisecond
}
