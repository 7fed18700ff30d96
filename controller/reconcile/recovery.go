package reconcile

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// wantedPerAnswer bounds the logs that one heartbeat's answer asks for.
const wantedPerAnswer = 1_000

// Recovery says what happens to a partition whose replicas may all lack
// something that was acknowledged, and whose records were not on disk.
type Recovery uint8

// The recoveries.
const (
	// RecoveryAuto lets the replica lead that has the most.
	RecoveryAuto Recovery = iota
	// RecoveryManual waits until somebody accepts the loss.
	RecoveryManual
)

// partitionID names a partition.
type partitionID struct {
	topic store.TopicID
	n     uint32
}

// Offline is a partition that nobody leads.
type Offline struct {
	Topic     store.TopicID
	Name      string
	Partition uint32
	// Awaited are the brokers without which nobody may lead; none: somebody
	// has to accept that records may be lost.
	Awaited []int32
}

// reports is where the logs of an incarnation of a broker end.
type reports struct {
	epoch int64
	ends  map[partitionID]found
}

// recoveries is what is known of the partitions that nobody leads. Nothing of
// it is stored: the next active controller asks again.
//
// A report holds as long as nobody has led since: until then nothing is
// appended to the log nor cut from it.
type recoveries struct {
	byBroker map[int32]reports // the goroutine of Run's; only of partitions that are offline

	mu      sync.Mutex // guards what follows
	offline []Offline
	wanted  map[int32][]partitionID
}

func newRecoveries() *recoveries {
	return &recoveries{byBroker: map[int32]reports{}, wanted: map[int32][]partitionID{}}
}

// reset forgets what was reported to the active controller before.
func (r *recoveries) reset() {
	clear(r.byBroker)
	r.publish(nil, nil)
}

// publish says which partitions are offline, and forgets what was reported of
// others.
func (r *recoveries) publish(offline []Offline, wanted map[int32][]partitionID) {
	r.mu.Lock()
	r.offline, r.wanted = offline, wanted
	r.mu.Unlock()
	if len(r.byBroker) == 0 {
		return
	}
	kept := make(map[partitionID]bool, len(offline))
	for _, o := range offline {
		kept[partitionID{o.Topic, o.Partition}] = true
	}
	for broker, rs := range r.byBroker {
		for id := range rs.ends {
			if !kept[id] {
				delete(rs.ends, id)
			}
		}
		if len(rs.ends) == 0 {
			delete(r.byBroker, broker)
		}
	}
}

// wantedOf returns the logs that a broker should report.
func (r *recoveries) wantedOf(broker int32) []*controllerv1.WantedLog {
	r.mu.Lock()
	ids := r.wanted[broker]
	r.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	ids = ids[:min(len(ids), wantedPerAnswer)]
	logs := make([]*controllerv1.WantedLog, len(ids))
	for i, id := range ids {
		logs[i] = &controllerv1.WantedLog{TopicId: id.topic[:], Partition: id.n}
	}
	return logs
}

// reported says where the logs of a partition end, as far as the present
// incarnations of its brokers have said so. With lenient also those count whose
// directory is older than what was acknowledged on it.
func (a *active) reported(v *image.View, e electable, lenient bool) func(int32) (election.Recovered, bool) {
	return func(broker int32) (election.Recovered, bool) {
		b := v.Brokers[broker].Record
		if b == nil || !e.holds(b) || b.GetOldDirectory() && !lenient {
			return election.Recovered{}, false
		}
		f, ok := a.said(v, e, broker)
		return f.Recovered, ok
	}
}

// recover returns the partition led by who has the most, if nobody can be
// trusted to have everything (rule H4).
func (a *active) recover(v *image.View, e electable) (electable, bool) {
	if e.Leader != election.NoLeader || !e.record.GetDisk() && a.o.Recovery == RecoveryManual || !a.complete(v, e) {
		return e, false
	}
	var led bool
	e.Partition, led = election.Recover(e.Partition, e.standing(v), a.reported(v, e, false))
	switch {
	case led && e.fromBackup:
		e = a.settled(v, e)
	case led:
		a.tellLoss(v, e, "who has the most of those that are left leads")
	}
	return e, led
}

// tellLoss tells that what was acknowledged may be missing.
func (a *active) tellLoss(v *image.View, e electable, why string) {
	a.losses.Add(1)
	a.o.Logger.Error("records may be lost", slog.String("why", why), slog.String("topic", topicOf(v, store.TopicID(e.record.GetTopicId())).Record.GetTopic()),
		slog.Int("partition", int(e.record.GetPartition())), slog.Int("leader", int(e.Leader)), slog.Int("leader_epoch", int(e.LeaderEpoch)))
}

// offlines collects the partitions that nobody leads.
type offlines struct {
	list   []Offline
	wanted map[int32][]partitionID
}

// add notes a partition that nobody leads.
func (o *offlines) add(a *active, v *image.View, e electable) {
	id := partitionID{store.TopicID(e.record.GetTopicId()), e.record.GetPartition()}
	awaited := election.Awaits(e.Partition, e.standing(v), a.reported(v, e, false))
	o.list = append(o.list, Offline{
		Topic: id.topic, Name: topicOf(v, id.topic).Record.GetTopic(), Partition: id.n, Awaited: append(awaited, a.silent(v, e)...),
	})
	want := func(broker int32) {
		if o.wanted == nil {
			o.wanted = map[int32][]partitionID{}
		}
		o.wanted[broker] = append(o.wanted[broker], id)
	}
	if e.fromBackup {
		for broker, b := range v.Brokers {
			if _, known := a.said(v, e, broker); !known && !b.Record.GetFenced() {
				want(broker)
			}
		}
		return
	}
	lenient := a.reported(v, e, true)
	for _, broker := range e.Replicas {
		b := v.Brokers[broker].Record
		if _, known := lenient(broker); !known && !b.GetFenced() && e.holds(b) {
			want(broker)
		}
	}
}

// report takes what a broker found of its logs. Who turns out to hold a
// partition that comes from a backup becomes a replica of it. A replica that is doubtful is
// neither in sync nor eligible any more, before anything else follows from the
// heartbeat.
func (a *active) report(ctx context.Context, broker int32, r *controllerv1.HeartbeatRequest) error {
	rec, err := a.broker(broker, r.GetBrokerEpoch())
	if err != nil {
		return err
	}
	rs := a.recoveries.byBroker[broker]
	if rs.epoch != rec.GetBrokerEpoch() {
		rs = reports{epoch: rec.GetBrokerEpoch(), ends: map[partitionID]found{}}
	}
	edits := newBatch()
	a.o.Image.Read(func(v *image.View) {
		for _, l := range r.GetRecoveredLogs() {
			id := store.TopicID(l.GetTopicId())
			p := partitionOf(v, id, l.GetPartition())
			if p.Record == nil {
				continue
			}
			e := newElectable(p.Record)
			key := store.PartitionKey(id, l.GetPartition())
			// A broker that has not seen yet that nobody leads may write still.
			stopped := e.Leader == election.NoLeader && r.GetRevision() >= p.Revision
			switch holds := e.holds(rec); {
			case l.GetAbsent():
				if stopped && e.fromBackup {
					rs.ends[partitionID{id, l.GetPartition()}] = found{absent: true}
				}
				continue
			case !holds && stopped && e.fromBackup:
				e.adopt(rec) // and where its log ends is asked for then
				edits.put(key, p.Revision, e.edited())
				continue
			case !holds:
				continue
			case l.GetUnreadable():
				// Where it ends is not known: that it is empty would have others lead
				// that have less, and is not said. It is asked for again.
			case stopped:
				rs.ends[partitionID{id, l.GetPartition()}] = found{Recovered: election.Recovered{LastEpoch: l.GetLastLeaderEpoch(), End: l.GetEnd()}}
			}
			var changed bool
			if e.Partition, changed = election.Distrust(e.Partition, broker); changed && l.GetDoubtful() {
				a.o.Logger.Error("a replica is doubtful", slog.String("topic_id", id.String()), slog.Int("partition", int(l.GetPartition())), slog.Int("broker_id", int(broker)))
				edits.put(key, p.Revision, e.edited())
			}
		}
	})
	a.recoveries.byBroker[broker] = rs
	a.scan = true
	if len(edits.edits) > 0 {
		if _, err := a.commit(ctx, edits.edits...); err != nil {
			return err
		}
	}
	return a.settle(ctx)
}

// OfflinePartitions returns the partitions that nobody leads, in the order of
// their names.
func (l *Loop) OfflinePartitions(ctx context.Context) ([]Offline, error) {
	list, err := ask(ctx, l, func(ctx context.Context, a *active) ([]Offline, error) {
		err := a.settle(ctx)
		a.recoveries.mu.Lock()
		found := slices.Clone(a.recoveries.offline)
		a.recoveries.mu.Unlock()
		a.o.Image.Read(func(v *image.View) { // a topic that was deleted since is not looked at again for that
			found = slices.DeleteFunc(found, func(o Offline) bool { return topicOf(v, o.Topic) == nil })
		})
		return found, err
	})
	slices.SortFunc(list, func(x, y Offline) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Partition, y.Partition))
	})
	return list, err
}

// RecoverPartition has a partition that nobody leads led by whoever of its
// replicas serves and has the most: the way out when those that have more will
// not come back. It fails with *UnknownTopicError, *UnknownPartitionError,
// *NotOfflineError, *NoReplicaServesError or *MayReturnError.
func (l *Loop) RecoverPartition(ctx context.Context, r *controllerv1.RecoverPartitionRequest) (*controllerv1.RecoverPartitionResponse, error) {
	return ask(ctx, l, func(ctx context.Context, a *active) (*controllerv1.RecoverPartitionResponse, error) {
		return a.acceptLoss(ctx, r)
	})
}

func (a *active) acceptLoss(ctx context.Context, r *controllerv1.RecoverPartitionRequest) (*controllerv1.RecoverPartitionResponse, error) {
	resp := new(controllerv1.RecoverPartitionResponse)
	edits := newBatch()
	var err error
	a.o.Image.Read(func(v *image.View) {
		var p image.Partition
		if p, err = named(v, r.GetTopic(), r.GetPartition()); err != nil {
			return
		}
		e := newElectable(p.Record)
		if e.Leader != election.NoLeader {
			err = &NotOfflineError{Topic: r.GetTopic(), Partition: r.GetPartition(), Leader: e.Leader, LeaderEpoch: e.LeaderEpoch}
			return
		}
		reported := a.reported(v, e, true)
		for _, id := range e.Replicas {
			if end, ok := reported(id); ok {
				resp.Ends = append(resp.Ends, &controllerv1.ReplicaEnd{BrokerId: id, LastLeaderEpoch: end.LastEpoch, End: end.End})
			}
		}
		resp.AwaitedBrokerIds = append(election.Awaits(e.Partition, e.standing(v), a.reported(v, e, false)), a.silent(v, e)...)
		if r.GetOnlyIfLost() {
			if left := mayReturn(v, e, resp.GetAwaitedBrokerIds(), r.GetLostBrokerIds()); len(left) > 0 {
				err = &MayReturnError{Topic: r.GetTopic(), Partition: r.GetPartition(), Awaited: left}
				return
			}
		}
		var led bool
		if e.Partition, led = election.AcceptLoss(e.Partition, e.anywhere(v), reported); !led {
			err = &NoReplicaServesError{Topic: r.GetTopic(), Partition: r.GetPartition(), Replicas: e.Replicas}
			return
		}
		// From here on the leader stands for its own directory.
		e.setDirectory(e.replica(e.Leader), v.Brokers[e.Leader].Record.GetDirectoryId())
		resp.Record, resp.Revision = e.edited(), v.Revision
		if r.GetAcceptLoss() {
			a.tellLoss(v, e, "the loss was accepted")
			edits.put(store.PartitionKey(store.TopicID(p.Record.GetTopicId()), r.GetPartition()), p.Revision, resp.GetRecord())
		}
	})
	if err != nil || len(edits.edits) == 0 {
		return resp, err
	}
	a.scan = true
	if resp.Revision, err = a.commit(ctx, edits.edits...); err != nil {
		return nil, err
	}
	err = a.settle(ctx)
	resp.Revision = a.o.Image.Revision()
	return resp, err
}

// mayReturn returns those of the awaited brokers that are not lost. WHY the word
// of whoever asks is not enough: one that is there with its log has only not been
// heard yet.
func mayReturn(v *image.View, e electable, awaited, lost []int32) []int32 {
	var left []int32
	for _, id := range awaited {
		b := v.Brokers[id].Record
		there := b != nil && !b.GetFenced() && e.holds(b)
		if (there || !slices.Contains(lost, id)) && !slices.Contains(left, id) {
			left = append(left, id)
		}
	}
	return left
}

// named returns a partition of the topic of that name.
func named(v *image.View, topic string, n uint32) (image.Partition, error) {
	t := v.TopicByName(topic)
	if t == nil {
		return image.Partition{}, &UnknownTopicError{Topic: topic}
	}
	if int64(n) >= int64(len(t.Partitions)) {
		return image.Partition{}, &UnknownPartitionError{Topic: topic, Partition: n, Count: len(t.Partitions)}
	}
	return t.Partitions[n], nil
}

// distrust takes the trust from the replicas of a broker on a directory for
// which f holds.
func (a *active) distrust(ctx context.Context, broker int32, directory []byte, f func(electable) bool) error {
	var edits []*store.Edit
	a.o.Image.Read(func(v *image.View) {
		edits = a.eachPartition(v, func(p electable) (electable, bool) {
			i := p.replica(broker)
			if i < 0 || !bytes.Equal(p.directory(i), directory) || !f(p) {
				return p, false
			}
			var changed bool
			p.Partition, changed = election.Distrust(p.Partition, broker)
			return p, changed
		})
	})
	if len(edits) == 0 {
		return nil
	}
	a.scan = true
	_, err := a.commit(ctx, edits...)
	return err
}

// awaitedFrom reports whether any partition waits for what a broker has on its
// directory.
func awaitedFrom(v *image.View, b *controllerv1.BrokerRecord) bool {
	for _, t := range v.Topics {
		for _, p := range t.Partitions {
			if slices.Contains(p.Record.GetLastKnown(), b.GetBrokerId()) && newElectable(p.Record).holds(b) {
				return true
			}
		}
	}
	return false
}
