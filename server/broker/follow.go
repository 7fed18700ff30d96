package broker

import (
	"context"
	"errors"
	"slices"

	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

// follow carries out what the metadata says, from the revision of the
// registration on (an older one would have this broker lead in epochs of its
// former incarnation), until ctx ends.
func (b *Broker) follow(ctx context.Context, revision int64) error {
	seen, err := b.mirror.Wait(ctx, revision)
	if err != nil {
		return err
	}
	b.apply(nil, seen)
	b.vouched.carriedOut(seen.Revision)
	b.bury(seen)
	if b.unclean {
		b.lookThrough(ctx)
	}
	b.serving.Store(true)
	b.beatNow()
	b.logger.Info("serving", "revision", seen.Revision, "logs", len(b.allLogs()))
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-seen.Superseded():
		}
		next := b.mirror.Current()
		b.apply(seen, next)
		if was, is := seen.Broker(b.opts.ID), next.Broker(b.opts.ID); is != nil && (was == nil || was.Epoch != is.Epoch) {
			b.realign() // what was meant for another incarnation before may not be now
		}
		b.vouched.carriedOut(next.Revision)
		b.settleDoubts()
		seen = next
	}
}

// apply carries out what differs between two snapshots.
func (b *Broker) apply(old, next *metadata.Snapshot) {
	// Before a log is made that was not there: it may come before the broker has
	// registered in the generation.
	if err := b.found.enter(b.opts.FS, &b.dir, next.Generation); err != nil {
		b.failDirectory(err)
		return
	}
	for was, is := range next.ChangedTopics(old) {
		if is == nil {
			b.dropTopic(was, next.Deletion(was.ID))
			continue
		}
		for i, part := range is.Partitions {
			if was != nil && i < len(was.Partitions) && was.Partitions[i] == part && was.Config == is.Config {
				continue
			}
			if was != nil && i < len(was.Partitions) && part.Leader == b.opts.ID {
				b.metrics.inSync(was.Partitions[i], part)
			}
			w := &wanted{next.Generation, is, part}
			if !slices.Contains(part.Replicas, b.opts.ID) {
				if l := b.log(keyOf(is.ID, part.ID)); l != nil {
					l.update(w) // it resigns
					b.release(w)
				}
				continue
			}
			b.claimFor(w)
			if l := b.ensure(w); l != nil && l.opened.Load() == nil && !l.awaitsAnswer() {
				b.errand.add(func() { b.openInBackground(l) })
			}
		}
	}
	b.dropBypassed(next)
}

// dropBypassed drops the logs that requests entered for topics that came and
// went between two snapshots that follow saw: for it, nothing has changed.
//
// A request may know of a topic that next does not have yet. Whether it is gone
// the snapshot of now says, which is as new as that of any request: if it is not,
// the log is looked at again with the next snapshot, which has it or comes later.
func (b *Broker) dropBypassed(next *metadata.Snapshot) {
	b.logs.Lock()
	entered := b.logs.entered
	b.logs.entered = nil
	b.logs.Unlock()
	var early []*localLog
	now := b.mirror.Current()
	for _, l := range entered {
		topic := l.want.Load().topic
		switch {
		case next.TopicByID(topic.ID) != nil: // follow knows of it
		case now.TopicByID(topic.ID) != nil:
			early = append(early, l)
		default:
			b.dropTopic(topic, now.Deletion(topic.ID))
		}
	}
	if len(early) > 0 {
		b.logs.Lock()
		b.logs.entered = append(b.logs.entered, early...)
		b.logs.Unlock()
	}
}

// openInBackground opens a log that nobody has asked for yet, so that damage
// is found and retention works without a client.
func (b *Broker) openInBackground(l *localLog) {
	_, _ = l.partition() // it is logged and counted there
}

// log returns the log of that name, nil if there is none.
func (b *Broker) log(k logKey) *localLog {
	b.logs.RLock()
	defer b.logs.RUnlock()
	return b.logs.byKey[k]
}

// ensure returns the log of a partition, on which what the metadata says has
// been carried out if it is open, or nil if the topic is gone.
func (b *Broker) ensure(w *wanted) *localLog {
	k := keyOf(w.topic.ID, w.part.ID)
	l := b.log(k)
	if l == nil {
		l = b.enter(k, w)
	}
	if l != nil && l.want.Load() != w {
		l.update(w)
	}
	return l
}

// enter puts a log into the table.
func (b *Broker) enter(k logKey, w *wanted) *localLog {
	b.logs.Lock()
	defer b.logs.Unlock()
	if l := b.logs.byKey[k]; l != nil {
		return l
	}
	// A topic leaves the current snapshot before dropTopic takes its logs out
	// under this lock. So a log that is entered here is taken out later, or not
	// entered: a look-up with an old snapshot does not bring a deleted log back.
	// If follow never saw the topic, it finds the log among those entered.
	if b.mirror.Current().TopicByID(w.topic.ID) == nil {
		return nil
	}
	l := &localLog{b: b, key: k}
	l.want.Store(w)
	b.logs.byKey[k] = l
	b.logs.entered = append(b.logs.entered, l)
	return l
}

// dropTopic closes the logs of a topic that is gone, and removes them if there
// is a record of its deletion. Without one they are orphans: kept, reported.
func (b *Broker) dropTopic(topic *metadata.Topic, d *metadata.Deletion) {
	var logs []*localLog
	b.logs.Lock()
	for _, part := range topic.Partitions {
		k := keyOf(topic.ID, part.ID)
		if l := b.logs.byKey[k]; l != nil {
			logs = append(logs, l)
			delete(b.logs.byKey, k)
		}
	}
	b.logs.Unlock()
	if len(logs) == 0 {
		return
	}
	b.errand.addMust(func() {
		keys := make([]logKey, 0, len(logs))
		for _, l := range logs {
			if err := l.close(); err != nil {
				b.logger.Warn("deleted log not closed in order", "topic", topic.Name, "partition", uint32(l.key.partition), "err", err)
			}
			keys = append(keys, l.key)
		}
		if d == nil {
			b.logger.Warn("topic is gone without a record of its deletion: its logs are kept", "topic", topic.Name, "topic_id", topic.ID.String())
			return
		}
		b.discard(d, keys)
	})
}

// bury removes the logs of topics that were deleted while this broker was not
// there to see it.
func (b *Broker) bury(s *metadata.Snapshot) {
	logs, strangers, err := b.dir.entries()
	if err != nil {
		b.logger.Error("data directory not listed", "err", err)
		return
	}
	dead := make(map[*metadata.Deletion][]logKey)
	orphans := len(strangers)
	for _, k := range logs {
		id := metadata.TopicID(k.topic)
		if t := s.TopicByID(id); t != nil {
			if part := t.Partition(uint32(k.partition)); part != nil {
				b.release(&wanted{s.Generation, t, part})
			}
			continue
		}
		if d := s.Deletion(id); d != nil {
			dead[d] = append(dead[d], k)
		} else {
			orphans++
		}
	}
	if orphans > 0 {
		b.logger.Warn("directories that the metadata does not know are kept", "orphans", orphans)
	}
	for d, keys := range dead {
		b.errand.add(func() { b.discard(d, keys) })
	}
}

// discard moves logs to the trash on a record of deletion (rule S5).
func (b *Broker) discard(d *metadata.Deletion, keys []logKey) {
	if !b.current(d.Generation) {
		b.logger.Warn("deletion of another cluster generation: logs are kept", "topic", d.Name, "generation", d.Generation)
		return
	}
	now := b.calendar.Now()
	for _, k := range keys {
		if err := b.dir.discard(k, now, d.Now); err != nil {
			b.logger.Error("deleted log not moved to the trash", "topic", d.Name, "partition", uint32(k.partition), "err", err)
		}
	}
	if err := b.dir.settle(); err != nil {
		b.logger.Error("trash not synced", "err", err)
	}
	b.logger.Info("topic removed", "topic", d.Name, "logs", len(keys), "now", d.Now)
	if d.Now {
		b.sweep()
	}
}

// Partition returns a partition that this broker leads, with its topic. It
// fails with *UnknownTopicError, *UnknownPartitionError, *NotLeaderError,
// partition.ErrClosed, or why the log cannot be opened: *partition.FailedError,
// *commitlog.WriteError. The first use opens the log.
func (b *Broker) Partition(topic string, id uint32) (*partition.Partition, *metadata.Topic, error) {
	s := b.mirror.Current()
	t := s.TopicByName(topic)
	if t == nil {
		return nil, nil, &UnknownTopicError{Topic: topic}
	}
	p, err := b.partitionOf(s, t, id)
	return p, t, err
}

// PartitionOf is Partition for a topic that has been looked up, however long
// ago: who leads is looked up now.
func (b *Broker) PartitionOf(t *metadata.Topic, id uint32) (*partition.Partition, error) {
	s := b.mirror.Current()
	return b.partitionOf(s, latest(s, t), id)
}

// latest returns a topic as it is now, or as it was before it was deleted.
func latest(s *metadata.Snapshot, t *metadata.Topic) *metadata.Topic {
	if now := s.TopicByID(t.ID); now != nil {
		return now
	}
	return t
}

func (b *Broker) partitionOf(s *metadata.Snapshot, t *metadata.Topic, id uint32) (*partition.Partition, error) {
	part := t.Partition(id)
	if part == nil {
		return nil, &UnknownPartitionError{Topic: t.Name, Partition: id, Count: len(t.Partitions)}
	}
	if part.Leader != b.opts.ID || !b.serving.Load() {
		return nil, b.notLeader(s, t, part)
	}
	l := b.log(keyOf(t.ID, id))
	if cur := currentWant(l); cur == nil || cur.part != part {
		// Not seen here yet, or this is older or newer than what was.
		if l = b.ensure(&wanted{s.Generation, t, part}); l == nil {
			return nil, &UnknownTopicError{Topic: t.Name}
		}
	}
	p, err := l.partition()
	if errors.Is(err, errUntold) {
		return nil, b.notLeader(s, t, part) // another will lead
	}
	return p, err
}

// ReplicaOf returns a partition that this broker leads, or follows and is in
// sync, so that NewReplicaReader reads it. It fails as Partition does.
func (b *Broker) ReplicaOf(t *metadata.Topic, id uint32) (*partition.Partition, error) {
	s := b.mirror.Current()
	t = latest(s, t)
	part := t.Partition(id)
	if part == nil || part.Leader == b.opts.ID {
		return b.partitionOf(s, t, id)
	}
	if !slices.Contains(part.ISR, b.opts.ID) || !b.serving.Load() {
		return nil, b.notLeader(s, t, part)
	}
	l := b.log(keyOf(t.ID, id))
	if l == nil {
		return nil, b.notLeader(s, t, part)
	}
	p, err := l.partition()
	if errors.Is(err, errUntold) {
		return nil, b.notLeader(s, t, part)
	}
	if err != nil {
		return nil, err
	}
	if p.ServesReaders() != nil {
		return nil, b.notLeader(s, t, part)
	}
	return p, nil
}

func (b *Broker) notLeader(s *metadata.Snapshot, t *metadata.Topic, part *metadata.Partition) error {
	if err := b.Failure(); err != nil && part.Leader == metadata.NoLeader && b.alone(part) {
		// Nobody else will lead: whoever asks is told why, and not to wait.
		return &partition.FailedError{Cause: err}
	}
	e := &NotLeaderError{
		Topic: t.Name, Partition: part.ID, Leader: part.Leader,
		Epoch: record.LeaderEpoch(part.LeaderEpoch), Revision: s.Revision,
	}
	if part.Leader == b.opts.ID { // it will be this broker, or was
		e.Leader = metadata.NoLeader
	} else if leader := s.Broker(part.Leader); leader != nil {
		e.Address = leader.Address
	}
	return e
}

// alone tells whether no other broker has a replica.
func (b *Broker) alone(part *metadata.Partition) bool {
	return !slices.ContainsFunc(part.Replicas, func(id int32) bool { return id != b.opts.ID })
}

func currentWant(l *localLog) *wanted {
	if l == nil {
		return nil
	}
	return l.want.Load()
}

func keyOf(topic metadata.TopicID, partition uint32) logKey {
	return logKey{topic: record.TopicID(topic), partition: record.PartitionID(partition)}
}
