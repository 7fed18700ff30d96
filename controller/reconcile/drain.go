package reconcile

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/placement"
	"github.com/millstream-io/millstream/controller/store"
)

const (
	// maxMoves bounds the partitions that are moved at a time by themselves: more
	// would not be faster, and each takes from the brokers that serve.
	maxMoves = 100
	// fillsAtOnce bounds the replicas that a broker is being filled with when a
	// drain adds another.
	//
	// WHY so few: moves that begin together end together. All replicas come in
	// sync, and their leaders hand over, in the same second (docs/adr/0019).
	fillsAtOnce = 2
)

// DrainBroker has everything moved away from a broker. It fails with
// *UnknownBrokerError or *NoPlaceError.
func (l *Loop) DrainBroker(ctx context.Context, r *controllerv1.DrainBrokerRequest) (*controllerv1.DrainBrokerResponse, error) {
	resp := new(controllerv1.DrainBrokerResponse)
	err := l.do(ctx, func(ctx context.Context, a *active) (err error) {
		var b image.Broker
		a.o.Image.Read(func(v *image.View) {
			resp.Revision, b = v.Revision, v.Brokers[r.GetBrokerId()]
			resp.Replicas, err = drainable(v, r.GetBrokerId())
		})
		if err != nil || r.GetValidateOnly() || b.Record.GetDraining() && b.Record.GetDrainBytesPerSecond() == r.GetBytesPerSecond() {
			return err
		}
		resp.Revision, err = a.commit(ctx, a.edit(b, func(rec *controllerv1.BrokerRecord) {
			rec.Draining, rec.DrainBytesPerSecond = true, r.GetBytesPerSecond()
		}))
		if err != nil {
			return err
		}
		a.o.Logger.InfoContext(ctx, "broker is drained", slog.Int("broker_id", int(r.GetBrokerId())), slog.Int("replicas", int(resp.GetReplicas())))
		err = a.settle(ctx)
		resp.Revision = a.o.Image.Revision() // with the first of the moves
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// drainable counts the replicas of a broker, and refuses to drain it when one
// of them could go nowhere.
func drainable(v *image.View, id int32) (uint32, error) {
	if v.Brokers[id].Record == nil {
		return 0, &UnknownBrokerError{Broker: id}
	}
	others := takers(v)
	others = slices.DeleteFunc(others, func(b placement.Broker) bool { return b.ID == id })
	m := placement.NewMover(others, racks(v))
	var held uint32
	var stuck []*NoPlaceError // one of each topic
	for _, t := range v.Topics {
		fits := true
		for n, p := range t.Partitions {
			replicas := placed(p.Record)
			if !slices.Contains(replicas, id) {
				continue
			}
			held++
			if _, err := m.Replace(replicas, id); err != nil && fits {
				fits = false
				stuck = append(stuck, &NoPlaceError{
					Broker: id, Topic: t.Record.GetTopic(), Partition: uint32(n), Wanted: len(replicas), Available: len(others),
				})
			}
		}
	}
	if len(stuck) == 0 {
		return held, nil
	}
	first := slices.MinFunc(stuck, func(a, b *NoPlaceError) int { return cmp.Compare(a.Topic, b.Topic) })
	first.Topics = len(stuck)
	return held, first
}

// UndrainBroker makes a broker take replicas again. It fails with
// *UnknownBrokerError.
func (l *Loop) UndrainBroker(ctx context.Context, r *controllerv1.UndrainBrokerRequest) (*controllerv1.UndrainBrokerResponse, error) {
	resp := new(controllerv1.UndrainBrokerResponse)
	err := l.do(ctx, func(ctx context.Context, a *active) (err error) {
		var b image.Broker
		a.o.Image.Read(func(v *image.View) { resp.Revision, b = v.Revision, v.Brokers[r.GetBrokerId()] })
		switch {
		case b.Record == nil:
			return &UnknownBrokerError{Broker: r.GetBrokerId()}
		case !b.Record.GetDraining(), r.GetValidateOnly():
			return nil
		}
		resp.Revision, err = a.commit(ctx, a.edit(b, func(rec *controllerv1.BrokerRecord) { rec.Draining, rec.DrainBytesPerSecond = false, 0 }))
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// silenceWait is by how much longer than a session RemoveBroker waits for a
// broker that stops to be known as silent.
const silenceWait = 2 * time.Second

// RemoveBroker forgets a broker. One that stops, and holds nothing, is waited
// for: its process may have ended just now, which nobody knows before its
// session has. It fails with *UnknownBrokerError or *BrokerInUseError.
func (l *Loop) RemoveBroker(ctx context.Context, r *controllerv1.RemoveBrokerRequest) (*controllerv1.RemoveBrokerResponse, error) {
	silent := time.NewTimer(l.o.SessionTimeout + silenceWait)
	defer silent.Stop()
	for {
		changed := l.o.Image.Changed()
		resp, err := l.forget(ctx, r)
		if e, inUse := errors.AsType[*BrokerInUseError](err); !inUse || !e.Stopping || e.Replicas > 0 {
			return resp, err
		}
		select {
		case <-changed:
		case <-silent.C:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// forget is RemoveBroker as things are now.
func (l *Loop) forget(ctx context.Context, r *controllerv1.RemoveBrokerRequest) (*controllerv1.RemoveBrokerResponse, error) {
	resp := new(controllerv1.RemoveBrokerResponse)
	err := l.do(ctx, func(ctx context.Context, a *active) (err error) {
		id := r.GetBrokerId()
		e := new(store.Edit)
		a.o.Image.Read(func(v *image.View) {
			resp.Revision = v.Revision
			if err = removable(v, id); err != nil {
				return
			}
			e.Expect(store.BrokerKey(id), v.Brokers[id].Revision).Delete(store.BrokerKey(id))
			for k := range v.Served {
				if k.Broker == id && e.Room(1) {
					e.Delete(k)
				}
			}
		})
		if err != nil || r.GetValidateOnly() {
			return err
		}
		a.scan = true
		resp.Revision, err = a.commit(ctx, e)
		delete(a.incarnations, id)
		delete(a.alike, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// removable refuses to forget a broker that holds anything or may be running.
func removable(v *image.View, id int32) error {
	b := v.Brokers[id].Record
	if b == nil {
		return &UnknownBrokerError{Broker: id}
	}
	held := 0
	for _, topics := range []map[store.TopicID]*image.Topic{v.Topics, v.Intents} {
		for _, t := range topics {
			for _, p := range t.Partitions {
				if slices.Contains(p.Record.GetReplicas(), id) {
					held++
				}
			}
		}
	}
	if held > 0 || !b.GetFenced() {
		return &BrokerInUseError{Broker: id, Replicas: held, Running: !b.GetFenced(), Stopping: !b.GetFenced() && b.GetStopping()}
	}
	return nil
}

// planDrains returns the next moves away from brokers that are drained, as many
// as may go on at a time.
func (a *active) planDrains(v *image.View) []*store.Edit {
	rates := map[int32]uint64{}
	for id, b := range v.Brokers {
		if b.Record.GetDraining() {
			rates[id] = cmp.Or(b.Record.GetDrainBytesPerSecond(), a.o.MoveBytes)
		}
	}
	if len(rates) == 0 {
		return nil
	}
	room := maxMoves
	for _, t := range v.Topics {
		for _, p := range t.Partitions {
			if len(p.Record.GetTargetReplicas()) > 0 {
				room--
			}
		}
	}
	edits := newBatch()
	m, filled := placement.NewMover(takers(v), racks(v)), fills(v)
	for _, p := range movables(v) {
		if room <= 0 {
			break
		}
		target := p.Record.GetReplicas()
		var rate uint64
		for _, id := range p.Record.GetReplicas() {
			r, draining := rates[id]
			if !draining {
				continue
			}
			if next, err := m.Replace(target, id); err == nil { // else until there are brokers again
				target, rate = next, max(rate, r)
			}
		}
		if !slices.Equal(target, p.Record.GetReplicas()) && filled.add(p.Record.GetReplicas(), target) {
			edits.put(store.PartitionKey(store.TopicID(p.Record.GetTopicId()), p.Record.GetPartition()), p.Revision,
				newElectable(p.Record).begin(v, target, rate).edited())
			room--
		}
	}
	return edits.edits
}

// filling is how many replicas each broker is being filled with.
type filling map[int32]int

// fills counts the replicas that were added for moves and are not in sync.
func fills(v *image.View) filling {
	f := filling{}
	for _, t := range v.Topics {
		for _, p := range t.Partitions {
			for _, id := range p.Record.GetAddingReplicas() {
				if !slices.Contains(p.Record.GetInSyncReplicas(), id) {
					f[id]++
				}
			}
		}
	}
	return f
}

// add counts those that a move adds, unless one of them would have to be filled
// beside too many.
func (f filling) add(replicas, target []int32) bool {
	added := slices.DeleteFunc(slices.Clone(target), func(id int32) bool { return slices.Contains(replicas, id) })
	if slices.ContainsFunc(added, func(id int32) bool { return f[id] >= fillsAtOnce }) {
		return false
	}
	for _, id := range added {
		f[id]++
	}
	return true
}
