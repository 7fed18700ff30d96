package reconcile

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// RegisterBroker makes a broker known under a new epoch, fenced. Before that,
// its last incarnation is fenced and leads nothing any more. REQUIRES: the
// directory's identity has 16 bytes.
func (l *Loop) RegisterBroker(ctx context.Context, r *controllerv1.RegisterBrokerRequest) (*controllerv1.RegisterBrokerResponse, error) {
	return ask(ctx, l, func(ctx context.Context, a *active) (*controllerv1.RegisterBrokerResponse, error) {
		return a.register(ctx, r)
	})
}

func (a *active) register(ctx context.Context, r *controllerv1.RegisterBrokerRequest) (*controllerv1.RegisterBrokerResponse, error) {
	id := r.GetBrokerId()
	var (
		cluster *controllerv1.ClusterRecord
		old     image.Broker
		served  int64
		err     error
	)
	a.o.Image.Read(func(v *image.View) {
		cluster, old = v.Cluster.Record, v.Brokers[id]
		served = v.Served[store.ServedKey(id, store.DirectoryID(r.GetDirectoryId()))].Record.GetBrokerEpoch()
		err = mayRegister(v, r)
	})
	if err != nil {
		return nil, err
	}
	if in := a.incarnations[id]; old.Record != nil && in.epoch == old.Record.GetBrokerEpoch() &&
		in.id != "" && in.id == string(r.GetIncarnationId()) {
		return a.registered(cluster, in), nil
	}
	if err := a.mayReplace(old.Record, r); err != nil {
		return nil, err
	}
	eligible := r.GetPreviousBrokerEpoch() >= served
	if err := a.retire(ctx, old, r, eligible); err != nil {
		return nil, err
	}
	stale := !eligible
	a.o.Image.Read(func(v *image.View) {
		old = v.Brokers[id]
		// Restarting makes an old directory no younger.
		stale = stale || old.Record.GetOldDirectory() && bytes.Equal(old.Record.GetDirectoryId(), r.GetDirectoryId()) && awaitedFrom(v, old.Record)
	})
	rec := &controllerv1.BrokerRecord{
		BrokerId: id, Address: r.GetAddress(), InternalAddress: r.GetInternalAddress(), Rack: r.GetRack(), Fenced: true,
		DirectoryId: r.GetDirectoryId(), Version: r.GetVersion(), RegisterTimeMs: a.o.Now().UnixMilli(),
		FeatureLevelMin: r.GetFeatureLevelMin(), FeatureLevelMax: r.GetFeatureLevelMax(), OldDirectory: stale,
		// A restart does not end a drain: somebody has to.
		Draining: old.Record.GetDraining(), DrainBytesPerSecond: old.Record.GetDrainBytesPerSecond(),
	}
	epoch, err := a.commit(ctx, new(store.Edit).Expect(store.BrokerKey(id), old.Revision).Put(store.BrokerKey(id), rec))
	if err != nil {
		return nil, err
	}
	in := incarnation{id: string(r.GetIncarnationId()), epoch: epoch, eligible: eligible && !r.GetCopied()}
	a.incarnations[id] = in
	a.sessions.begin(id, epoch)
	a.scan = true
	if err := a.settle(ctx); err != nil {
		return nil, err
	}
	a.o.Logger.InfoContext(ctx, "broker registered", slog.Int("broker_id", int(id)), slog.Int64("broker_epoch", epoch),
		slog.String("address", r.GetAddress()), slog.Bool("clean", r.GetClean()), slog.Bool("eligible", eligible))
	return a.registered(cluster, in), nil
}

func (a *active) registered(cluster *controllerv1.ClusterRecord, in incarnation) *controllerv1.RegisterBrokerResponse {
	return &controllerv1.RegisterBrokerResponse{
		BrokerEpoch: in.epoch, Revision: in.epoch, Cluster: cluster, Eligible: in.eligible,
		HeartbeatIntervalMs: uint32((a.o.SessionTimeout / beatsPerSession).Milliseconds()),
		SessionTimeoutMs:    uint32(a.o.SessionTimeout.Milliseconds()),
	}
}

// mayRegister refuses brokers of another cluster, and more than there may be.
//
// A broker of an earlier generation is one of a cluster that was restored since.
// One of this generation has no greater epoch than was given out in it: if it
// has, it belongs to another cluster that was restored from the same backup as
// the same generation.
func mayRegister(v *image.View, r *controllerv1.RegisterBrokerRequest) error {
	c := v.Cluster.Record
	if len(r.GetClusterId()) > 0 {
		last := v.Revision
		if b := v.Brokers[r.GetBrokerId()].Record; b != nil {
			last = b.GetBrokerEpoch()
		}
		if !bytes.Equal(r.GetClusterId(), c.GetClusterId()) || r.GetClusterGeneration() > c.GetGeneration() ||
			r.GetClusterGeneration() == c.GetGeneration() && r.GetPreviousBrokerEpoch() > last {
			return &WrongClusterError{
				Got:  fmt.Sprintf("%x generation %d, broker epoch %d", r.GetClusterId(), r.GetClusterGeneration(), r.GetPreviousBrokerEpoch()),
				Want: fmt.Sprintf("%x generation %d, broker epoch %d", c.GetClusterId(), c.GetGeneration(), last),
			}
		}
	}
	least, greatest := r.GetFeatureLevelMin(), r.GetFeatureLevelMax()
	if greatest != 0 && (c.GetFeatureLevel() < least || c.GetFeatureLevel() > greatest) {
		return &FeatureLevelError{Least: least, Greatest: greatest, InForce: c.GetFeatureLevel()}
	}
	if _, known := v.Brokers[r.GetBrokerId()]; !known && len(v.Brokers) >= MaxBrokers {
		return &LimitError{Limit: "brokers of the cluster", Most: MaxBrokers, Actual: int64(len(v.Brokers)) + 1}
	}
	return nil
}

// mayReplace refuses a broker while another one of its number is alive. On the
// same directory, reached where it was, there is no other: the directory is
// locked, and a restart need not wait. Reached elsewhere, it may be on a copy of
// the directory, which has not all that the one that is alive acknowledges.
func (a *active) mayReplace(old *controllerv1.BrokerRecord, r *controllerv1.RegisterBrokerRequest) error {
	if old == nil {
		return nil
	}
	same := bytes.Equal(old.GetDirectoryId(), r.GetDirectoryId())
	if same && old.GetInternalAddress() == r.GetInternalAddress() {
		return nil
	}
	said, alive := a.sessions.last(old.GetBrokerId(), old.GetBrokerEpoch())
	if !alive || !said.heard || said.failed || same && said.stopping {
		return nil // one whose directory has failed is of no use
	}
	return &BrokerAliveError{Broker: old.GetBrokerId(), Address: old.GetAddress(), SameDirectory: same}
}

// retire fences the incarnation of a broker that was, takes its leaderships
// and the trust in those of its replicas that may lack what they acknowledged.
// Since all of that comes before the new incarnation is known, a failure
// half-way leaves the broker fenced, and it registers again.
//
// A directory that is not what it was is not trusted at all. Nor is a copy of it
// that was made meanwhile, but what that one has may be the most that is left: it
// is not called old, so that it is asked. After a stop that was not orderly, what
// was only in memory is gone if the machine was restarted (rule H4); what was on
// disk the broker itself has looked through, and reports if it is doubtful.
func (a *active) retire(ctx context.Context, old image.Broker, r *controllerv1.RegisterBrokerRequest, eligible bool) error {
	if old.Record == nil {
		return nil
	}
	id := old.Record.GetBrokerId()
	a.sessions.retire(id)
	if !old.Record.GetFenced() {
		if _, err := a.commit(ctx, a.fence(old)); err != nil {
			return err
		}
	}
	a.scan = true
	if err := a.settle(ctx); err != nil {
		return err
	}
	switch {
	case !eligible:
		a.o.Logger.ErrorContext(ctx, "a broker's directory is older than what it acknowledged; its replicas are not trusted",
			slog.Int("broker_id", int(id)), slog.String("directory_id", hex.EncodeToString(r.GetDirectoryId())))
		return a.distrust(ctx, id, r.GetDirectoryId(), func(electable) bool { return true })
	case r.GetCopied():
		a.o.Logger.ErrorContext(ctx, "a broker's directory is a copy of the one that it had; its replicas are not trusted to have everything",
			slog.Int("broker_id", int(id)), slog.String("directory_id", hex.EncodeToString(r.GetDirectoryId())))
		return a.distrust(ctx, id, r.GetDirectoryId(), func(electable) bool { return true })
	case !r.GetClean() && !r.GetSameBoot():
		return a.distrust(ctx, id, r.GetDirectoryId(), func(e electable) bool { return !e.disk })
	}
	return nil
}

// Heartbeat notes that a broker is alive and does what it wants.
func (l *Loop) Heartbeat(ctx context.Context, r *controllerv1.HeartbeatRequest) (*controllerv1.HeartbeatResponse, error) {
	if !l.Active() {
		// The loop waits until it is, or knows who is.
		if err := l.AwaitActive(ctx); err != nil {
			return nil, err
		}
	}
	b := beat{
		epoch: r.GetBrokerEpoch(), revision: r.GetRevision(), ready: r.GetReady(), stopping: r.GetStopping(),
		failed: len(r.GetFailedDirectoryIds()) > 0,
		heard:  true, impaired: r.GetImpairment(), delay: time.Duration(min(r.GetDiskDelayUs(), mostDelayUs)) * time.Microsecond,
	}
	rec, err := l.broker(r.GetBrokerId(), b.epoch)
	if err != nil {
		return nil, err
	}
	if len(r.GetRecoveredLogs()) > 0 {
		// Before the broker is taken to be ready: it may be less than it seems.
		if err := l.do(ctx, func(ctx context.Context, a *active) error { return a.report(ctx, r.GetBrokerId(), r) }); err != nil {
			return nil, err
		}
	}
	l.suspect(r.GetUnreachableBrokers())
	l.progress.hear(r.GetBrokerId(), r.GetMoves())
	l.sessions.hear(r.GetBrokerId(), b)
	if wants(rec, b) {
		if err := l.do(ctx, func(ctx context.Context, a *active) error { return a.settle(ctx) }); err != nil {
			return nil, err
		}
		if rec, err = l.broker(r.GetBrokerId(), b.epoch); err != nil {
			return nil, err
		}
	}
	return &controllerv1.HeartbeatResponse{
		Fenced: rec.GetFenced(), MayStop: rec.GetStopping() && !l.needed(rec), Revision: l.o.Image.Revision(),
		WantedLogs: l.recoveries.wantedOf(r.GetBrokerId()),
	}, nil
}

// broker returns the record of a broker's incarnation.
func (l *Loop) broker(id int32, epoch int64) (*controllerv1.BrokerRecord, error) {
	var rec *controllerv1.BrokerRecord
	l.o.Image.Read(func(v *image.View) { rec = v.Brokers[id].Record })
	if rec == nil || rec.GetBrokerEpoch() != epoch {
		return nil, &StaleBrokerEpochError{Broker: id, Epoch: epoch, Current: rec.GetBrokerEpoch()}
	}
	return rec, nil
}

// wants reports whether a heartbeat asks for a change of the broker's record.
func wants(rec *controllerv1.BrokerRecord, b beat) bool {
	return toUnfence(rec, b) || b.failed && !rec.GetFenced() || b.stopping && !rec.GetStopping()
}

// toUnfence reports whether a broker can be counted on from now on: its logs
// are recovered, and it has seen everything up to its registration.
func toUnfence(rec *controllerv1.BrokerRecord, b beat) bool {
	return rec.GetFenced() && b.ready && b.revision >= rec.GetBrokerEpoch() && !b.failed && !b.stopping
}

// needed reports whether a broker, which is about to stop, leads what another
// could lead, or is in sync where others are about to be who suffice without it.
// It does not wait for ever (broker.HandOver).
func (l *Loop) needed(rec *controllerv1.BrokerRecord) bool {
	needed, id := false, rec.GetBrokerId()
	l.o.Image.Read(func(v *image.View) {
		for _, t := range v.Topics {
			for _, p := range t.Partitions {
				if needed {
					return
				}
				needed = p.Record != nil && newElectable(p.Record).needs(v, id)
			}
		}
	})
	return needed
}

// needs is needed for one partition. Who is being filled for a move is not about
// to be in sync.
func (e electable) needs(v *image.View, id int32) bool {
	of := e.standing(v)
	if e.Leader == id && election.CanMove(e.Partition, of) {
		return true
	}
	return election.Missed(e.Partition, id, func(other int32) election.Standing {
		if slices.Contains(e.adding, other) {
			return election.Gone
		}
		return of(other)
	})
}

// planFences returns the records of brokers that can no longer be counted on,
// or no longer as before.
func (a *active) planFences(v *image.View) []*store.Edit {
	var edits []*store.Edit
	for id, b := range v.Brokers {
		said, alive := a.sessions.last(id, b.Record.GetBrokerEpoch())
		switch {
		case !b.Record.GetFenced() && (!alive || said.failed):
			a.o.Logger.Warn("broker fenced", slog.Int("broker_id", int(id)), slog.Bool("silent", !alive), slog.Bool("directory_failed", said.failed))
			edits = append(edits, a.fence(b))
		case said.stopping && !b.Record.GetStopping():
			edits = append(edits, a.edit(b, func(r *controllerv1.BrokerRecord) { r.Stopping = true }))
		}
	}
	return edits
}

// planUnfences returns the records of brokers that can be counted on again,
// each with what makes its directory's acknowledgements recognisable.
func (a *active) planUnfences(v *image.View) []*store.Edit {
	var edits []*store.Edit
	for id, b := range v.Brokers {
		said, alive := a.sessions.last(id, b.Record.GetBrokerEpoch())
		if !alive || !toUnfence(b.Record, said) {
			continue
		}
		e := a.edit(b, func(r *controllerv1.BrokerRecord) { r.Fenced = false })
		served := store.ServedKey(id, store.DirectoryID(b.Record.GetDirectoryId()))
		edits = append(edits, e.Put(served, b.Record))
	}
	return edits
}

func (a *active) fence(b image.Broker) *store.Edit {
	return a.edit(b, func(r *controllerv1.BrokerRecord) { r.Fenced = true })
}

// edit changes the record of a broker.
func (a *active) edit(b image.Broker, change func(*controllerv1.BrokerRecord)) *store.Edit {
	r := proto.CloneOf(b.Record)
	change(r)
	a.scan = true
	k := store.BrokerKey(r.GetBrokerId())
	return new(store.Edit).Expect(k, b.Revision).Put(k, r)
}
