package check

import (
	"cmp"
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// Checker takes the events of one history and reports on them. It is not safe
// for concurrent use.
type Checker struct {
	recorders  []history.Recorder
	records    map[int32]bool // brokers that write down what they do
	tally      *tally
	ops        map[opKey]*op
	partitions map[partitionKey]*partition
	faults     faults
	metadata   metadata
	troubles   troubles
	off        map[int32]int64 // when brokers lost power that have not begun again
	going      map[int32]int64 // and of which something may run still
}

// partitionKey names a partition.
type partitionKey struct {
	topic     string
	partition uint32
}

// partition is what is known of one: see the package comment.
type partition struct {
	scribe
	book
	readers
	leaders
	replicas
	dumps
	recovery recovery
}

// opKey names an append.
type opKey struct {
	source uint16
	op     uint64
}

// op is an append that was invoked and not completed.
type op struct {
	history.Append
	p       *partition
	number  uint64
	sends   []*send // one for each piece; see book
	at      history.Location
	t       int64
	since   int64 // faults before it do not take what it carries
	session sessionKey
}

// New returns a checker of what these recorders have written.
func New(recorders []history.Recorder) *Checker {
	records := map[int32]bool{}
	for _, r := range recorders {
		if r.Role == history.RoleBroker {
			records[r.Broker] = true
		}
	}
	t := newTally()
	return &Checker{
		recorders: recorders, records: records, tally: t, ops: map[opKey]*op{}, partitions: map[partitionKey]*partition{}, metadata: newMetadata(t),
	}
}

// of returns the partition of an event.
func (c *Checker) of(e *history.Event) *partition {
	key := partitionKey{e.Topic, e.Partition}
	p := c.partitions[key]
	if p == nil {
		s := scribe{e.Topic, e.Partition, c.tally}
		p = &partition{
			scribe: s, book: newBook(s, &c.faults), leaders: leaders{scribe: s},
			replicas: replicas{scribe: s, losses: &c.faults, records: c.records}, dumps: dumps{scribe: s}, recovery: recovery{scribe: s},
		}
		if c.troubles.ever {
			p.recovery.begin(e, &c.troubles)
		}
		c.partitions[key] = p
	}
	return p
}

// Observe takes the next event. REQUIRES: events come in the order of
// history.Compare.
func (c *Checker) Observe(e *history.Event) {
	c.tally.Events++
	whole := scribe{e.Topic, e.Partition, c.tally}
	whole.judged(Whole)
	if why := lacks(e); why != "" {
		whole.violated(Whole, at(e.At), "%s: %s", e.Kind, why)
		return
	}
	switch e.Kind {
	case history.AppendInvoke:
		c.invoke(e)
	case history.AppendOK, history.AppendFail, history.AppendUnknown:
		c.complete(e)
	case history.ReadBegin:
		c.of(e).beginRead(e, c.since(e.T))
	case history.ReadOK:
		c.of(e).frame(e)
	case history.ReadEnd:
		c.of(e).endRead(e)
	case history.ReadFail:
		c.of(e).failRead(e)
	case history.LeaderBegin:
		p := c.of(e)
		p.beginLeader(e, c.broker(e))
		p.settings(e, c.broker(e), c.since(e.T))
		p.moveHighWatermark(e, c.broker(e))
		p.recovery.settings(e, &c.troubles)
		c.metadata.goesBy(e, c.broker(e))
	case history.LeaderEnd:
		c.of(e).endLeader(e)
	case history.ISR:
		p := c.of(e)
		p.settings(e, c.broker(e), c.since(e.T))
		p.recovery.settings(e, &c.troubles)
		c.metadata.goesBy(e, c.broker(e))
	case history.ReplicaHeard:
		c.of(e).hears(e)
	case history.HighWatermark:
		c.of(e).moveHighWatermark(e, c.broker(e))
	case history.LogWritten, history.LogSynced:
		c.of(e).grow(e, c.broker(e))
	case history.LogTruncated, history.LogCut:
		c.of(e).shorten(e, c.broker(e))
	case history.LogStart:
		c.of(e).moveStart(e, c.broker(e))
	case history.LogGone:
		c.of(e).gone(c.broker(e))
	case history.LogDump:
		c.of(e).dumped(e, c.broker(e))
	case history.MetadataTold:
		c.metadata.watched(e, c.broker(e))
	case history.TopicRead:
		c.metadata.read(e)
	case history.SettingsInvoke:
		c.metadata.ask(e)
	case history.SettingsOK, history.SettingsFail, history.SettingsUnknown:
		c.metadata.answer(e)
	case history.FaultBegin:
		c.fault(e)
		c.trouble(e)
	case history.FaultEnd:
		c.trouble(e)
	case history.BrokerStart:
		b := c.broker(e)
		c.metadata.restarted(b)
		for _, p := range c.partitions {
			p.restarted(b)
			if _, off := c.off[b]; off {
				p.forget(history.FaultPower)
			}
		}
		delete(c.off, b)
		delete(c.going, b)
	case history.BrokerStop, history.RecorderBegin, history.RecorderEnd:
		// For people, and for rules to come.
	default:
		whole.violated(Whole, at(e.At), "%s: not a kind of event of this version", e.Kind)
	}
}

// since returns from when on faults may take what brokers say at a time: a
// fault is written down before it is made, so that what a broker says then may
// be from before, until it begins again.
func (c *Checker) since(t int64) int64 {
	for _, began := range c.off {
		t = min(t, began)
	}
	return t
}

// sinceAsked is since for what clients ask for: it reaches a broker whose power
// goes until nothing of it runs any more.
func (c *Checker) sinceAsked(t int64) int64 {
	for _, began := range c.going {
		t = min(t, began)
	}
	return t
}

// broker returns whose broker wrote an event down.
func (c *Checker) broker(e *history.Event) int32 { return c.recorders[e.At.Source].Broker }

// lacks says what an event of its kind should have and has not.
func lacks(e *history.Event) string {
	switch e.Kind { //nolint:exhaustive // the others need nothing
	case history.AppendInvoke:
		if e.Append == nil || e.Append.N == 0 {
			return "append, with records, is missing"
		}
		if n := len(e.Append.Digests); n > 0 && n != int(e.Append.N) {
			return "there are digests of some of its records only"
		}
	case history.AppendOK:
		if e.Ack == nil {
			return "ack is missing"
		}
		if e.Ack.Scope != history.ScopeNone && e.Ack.Base < 0 {
			return "the offset is below 0"
		}
	case history.ReadBegin, history.ReadOK, history.ReadEnd, history.ReadFail:
		if e.Read == nil {
			return "read is missing"
		}
	case history.LeaderBegin, history.LeaderEnd, history.ISR, history.HighWatermark, history.LogWritten, history.LogSynced,
		history.LogTruncated, history.LogCut, history.LogStart, history.LogDump, history.ReplicaHeard:
		if e.Replica == nil {
			return "replica is missing"
		}
	case history.MetadataTold, history.TopicRead:
		if e.Metadata == nil {
			return "metadata is missing"
		}
		if e.Metadata.Revision <= 0 {
			return "the revision is missing"
		}
	case history.SettingsInvoke:
		if e.Settings == nil || len(e.Settings.Set) == 0 {
			return "settings are missing"
		}
	case history.SettingsOK:
		if e.Settings == nil || e.Settings.Revision <= 0 {
			return "settings, with a revision, are missing"
		}
	case history.FaultBegin, history.FaultEnd:
		if e.Fault == nil {
			return "fault is missing"
		}
	}
	for i := range e.Batches {
		b := &e.Batches[i]
		if n := len(b.Digests); b.Base < 0 || b.N == 0 || n > 0 && n != int(b.N) {
			return "a batch has no offset, no records, or digests of some of them only"
		}
	}
	return ""
}

func (c *Checker) invoke(e *history.Event) {
	p := c.of(e)
	key := opKey{e.At.Source, e.Op}
	if before := c.ops[key]; before != nil {
		p.violated(Whole, at(before.at, e.At), "append %d is invoked twice", e.Op)
		return
	}
	o := &op{p: p, number: e.Op, Append: *e.Append, at: e.At, t: e.T, since: c.sinceAsked(e.T), session: sessionKey{e.At.Source, e.Append.Session}}
	o.Tries = max(o.Tries, 1)
	p.send(o, e)
	p.recovery.try(e)
	c.ops[key] = o
}

func (c *Checker) complete(e *history.Event) {
	p := c.of(e)
	key := opKey{e.At.Source, e.Op}
	o := c.ops[key]
	if o == nil || o.p != p {
		p.violated(Whole, at(e.At), "%s %d was not invoked, or not for this partition, or is completed twice", e.Kind, e.Op)
		return
	}
	delete(c.ops, key)
	switch e.Kind { //nolint:exhaustive // the three that complete an append
	case history.AppendOK:
		p.leaders.acknowledged(o, e, p.setting)
		if e.Ack.Scope == history.ScopeISR && e.Ack.Medium == history.MediumDisk {
			p.durable(o, e)
		}
		p.book.acknowledged(o, e)
		p.recovery.acknowledged(e)
	case history.AppendFail:
		p.failed(o, e)
		p.recovery.try(e)
	case history.AppendUnknown:
		p.unknown(o)
		p.recovery.try(e)
	}
}

// fault takes note of what a broker lost.
func (c *Checker) fault(e *history.Event) {
	switch e.Fault.Kind {
	case history.FaultPower, history.FaultDisk:
		c.faults = append(c.faults, fault{e.T, *e.Fault})
		for _, p := range c.partitions {
			p.forget(e.Fault.Kind)
			p.lost(e.Fault)
		}
		if e.Fault.Kind == history.FaultPower {
			if c.off == nil {
				c.off, c.going = map[int32]int64{}, map[int32]int64{}
			}
			if _, off := c.off[e.Fault.Broker]; !off {
				c.off[e.Fault.Broker] = e.T
				c.going[e.Fault.Broker] = e.T
			}
		}
	case history.FaultOff:
		delete(c.going, e.Fault.Broker)
		for _, p := range c.partitions {
			p.lost(e.Fault)
		}
	case history.FaultKill: // takes nothing
	}
}

// trouble takes note of what is broken, and mended.
func (c *Checker) trouble(e *history.Event) {
	if c.troubles.take(e) {
		for _, p := range c.partitions {
			p.recovery.begin(e, &c.troubles)
		}
	}
}

// Finish takes it that nothing follows, and returns what was found. Appends
// that were not completed are as those of unknown outcome.
func (c *Checker) Finish() *Report {
	all := make([]*partition, 0, len(c.partitions))
	for _, p := range c.partitions {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	for _, p := range all {
		p.book.finish()
		p.dumps.finish()
	}
	c.metadata.finish()
	if c.tally.Events == 0 {
		scribe{tally: c.tally}.violated(Whole, nil, "there is not one event in it")
	}
	return &c.tally.Report
}

// faults are what took data from brokers, in the order of time.
type faults []fault

type fault struct {
	t int64
	history.Fault
}

// release tells whether a batch that was asked for at a time may be gone: as
// many brokers lost what they had of it as had it when it was acknowledged.
func (f faults) release(since int64, medium history.Medium, inSync uint32) bool {
	lost := map[int32]bool{}
	for _, x := range f {
		if x.t >= since && (x.Kind == history.FaultDisk || medium != history.MediumDisk) {
			lost[x.Broker] = true
		}
	}
	return len(lost) > 0 && len(lost) >= int(inSync)
}
