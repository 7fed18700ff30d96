package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	millstreamv1 "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/partition"
)

// registration is what the controller answered.
type registration struct {
	epoch    int64
	revision int64
	interval time.Duration // of heartbeats
	session  time.Duration // how long the broker may be silent
}

// Pauses between attempts to reach the controller: a quarter of the time that
// has passed, within these bounds, so that a start in which the controller
// comes up late is late by no more than that. The least decides how fast `dev`
// starts.
const (
	leastPause = 10 * time.Millisecond
	mostPause  = time.Second
	// mostUnreachable is how many brokers a heartbeat names.
	mostUnreachable = 64
	// aliveFor is how long another broker of the same number is waited for: one
	// that has died, and whose disk was replaced, counts as alive for a while.
	aliveFor = 10 * time.Second
	// featureLevel is what this version can serve: a controller of a cluster where
	// another is in force refuses it.
	featureLevel = 1
	// registerTimeout bounds one attempt.
	registerTimeout = 5 * time.Second
)

// register registers until the controller answers, and writes the incarnation
// record. It fails when the controller refuses for good, or ctx ends.
func (b *Broker) register(ctx context.Context, inc Incarnation) (registration, error) {
	req := &controllerv1.RegisterBrokerRequest{
		BrokerId: b.opts.ID, DirectoryId: inc.DirectoryID[:], PreviousBrokerEpoch: inc.BrokerEpoch,
		ClusterGeneration: inc.Generation, Clean: inc.Clean, SameBoot: inc.BootID != (ID16{}) && inc.BootID == b.opts.BootID(),
		Address: b.opts.Address, InternalAddress: b.opts.InternalAddress, Rack: b.opts.Rack, Version: b.opts.Version,
		FeatureLevelMin: featureLevel, FeatureLevelMax: featureLevel,
	}
	if inc.ClusterID != (ID16{}) {
		req.ClusterId = inc.ClusterID[:]
	}
	made := b.opts.MadeAt(b.dir.lock())
	if req.Copied = inc.copied(made); req.Copied {
		b.logger.Warn("the data directory is a copy of one that was not stopped in order: what it has is not trusted to be all", "directory", b.opts.DataDir)
	}
	inc.Made = made
	fresh := newID16()
	req.IncarnationId = fresh[:]
	begun := time.Now()
	for attempt := 1; ; attempt++ {
		call, cancel := context.WithTimeout(ctx, registerTimeout)
		resp, err := b.opts.Controller.RegisterBroker(call, req)
		cancel()
		if err == nil {
			return b.adopt(inc, resp)
		}
		if ctx.Err() != nil {
			return registration{}, context.Cause(ctx)
		}
		doubled := hasReason(err, millstreamv1.ErrorReason_ERROR_REASON_BROKER_ALIVE)
		if doubled && time.Since(begun) >= aliveFor || !doubled && !worthRetrying(err) {
			return registration{}, fmt.Errorf("register with the controller: %w", err)
		}
		pause := min(max(leastPause, time.Since(begun)/4), mostPause)
		switch {
		case attempt > 1 && pause < mostPause:
		case doubled:
			b.logger.Warn("another broker of this number is alive", "attempt", attempt, "err", err)
		default:
			b.logger.Info("controller not reached yet", "attempt", attempt, "err", err)
		}
		if err := wait(ctx, pause); err != nil {
			return registration{}, err
		}
	}
}

// adopt makes the answer to a registration durable (rule S3): before this, no
// append.
func (b *Broker) adopt(inc Incarnation, resp *controllerv1.RegisterBrokerResponse) (registration, error) {
	var cluster ID16
	if copy(cluster[:], resp.GetCluster().GetClusterId()) != len(cluster) {
		return registration{}, fmt.Errorf("register with the controller: cluster id of %d bytes", len(resp.GetCluster().GetClusterId()))
	}
	if inc.ClusterID != (ID16{}) && inc.ClusterID != cluster {
		return registration{}, &WrongClusterError{Directory: b.opts.DataDir, Have: inc.ClusterID, Want: cluster}
	}
	if have, is := inc.Generation, resp.GetCluster().GetGeneration(); is != have && have != 0 {
		b.logger.Warn("the cluster was restored from a backup", "generation", is, "generation_before", have)
	}
	inc.ClusterID, inc.Generation = cluster, resp.GetCluster().GetGeneration()
	if err := b.found.enter(b.opts.FS, &b.dir, inc.Generation); err != nil {
		return registration{}, err
	}
	inc.BrokerEpoch, inc.BootID, inc.Clean = resp.GetBrokerEpoch(), b.opts.BootID(), false
	if err := inc.store(b.opts.FS, b.opts.DataDir); err != nil {
		return registration{}, err
	}
	b.identity.Store(&inc)
	b.realign()
	b.logger.Info("registered", "broker_epoch", inc.BrokerEpoch, "cluster", inc.ClusterID.String(), "eligible", resp.GetEligible())
	reg := registration{
		epoch: resp.GetBrokerEpoch(), revision: resp.GetRevision(),
		interval: time.Duration(resp.GetHeartbeatIntervalMs()) * time.Millisecond,
		session:  time.Duration(resp.GetSessionTimeoutMs()) * time.Millisecond,
	}
	if reg.interval <= 0 {
		reg.interval = 500 * time.Millisecond
	}
	if reg.session < reg.interval {
		reg.session = 4 * reg.interval
	}
	return reg, nil
}

// heartbeats says that the broker is alive until ctx ends. When the controller
// does not know this incarnation any more, the broker registers again.
//
// Silence of the controller changes nothing here: what is led stays led until
// the metadata says otherwise (rule H5).
func (b *Broker) heartbeats(ctx context.Context, reg registration) error {
	var wanted []*controllerv1.WantedLog              // by the last answer
	var unreachable []*controllerv1.UnreachableBroker // and not told yet
	for {
		unreachable = merge(unreachable, b.opts.Peers.Unreachable())
		req := b.heartbeat(reg, wanted)
		req.UnreachableBrokers = unreachable
		call, cancel := context.WithTimeout(ctx, reg.session/2)
		asked := partition.Uptime()
		resp, err := b.opts.Controller.Heartbeat(call, req)
		cancel()
		if err == nil {
			unreachable = nil
			if !resp.GetFenced() {
				b.vouched.answered(asked, resp.GetRevision())
			}
		}
		pause := reg.interval
		first := len(wanted) == 0
		wanted = resp.GetWantedLogs()
		if first && len(wanted) > 0 {
			pause = leastPause
		}
		switch {
		case err == nil:
			if !resp.GetFenced() && !b.unfenced.Load() {
				// What the controller let it lead is in the revision of its answer:
				// before it has that, it would turn away its first clients.
				b.awaitRevision(ctx, reg, resp.GetRevision())
			}
			b.unfenced.Store(!resp.GetFenced())
			b.doubts.answered(doubtsIn(req), b.identity.Load().Generation, resp.GetRevision())
			b.settleDoubts()
			if req.GetStopping() && resp.GetMayStop() {
				b.letGo.Do(func() { close(b.handedOver) })
			} else if req.GetStopping() {
				pause = leastPause
			}
			if resp.GetFenced() && b.serving.Load() && b.failure.Load() == nil {
				pause = leastPause // the next answer makes the broker ready
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isStale(err):
			b.logger.Warn("registration is stale", "broker_epoch", reg.epoch)
			if reg, err = b.register(ctx, *b.identity.Load()); err != nil {
				return err
			}
			continue
		default:
			b.logger.Warn("heartbeat not answered", "err", err)
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-b.beat:
		case <-b.opts.Peers.Lost():
		case <-t.C:
		}
		t.Stop()
	}
}

// awaitRevision waits until the metadata has reached a revision, for no longer
// than the next heartbeat is due.
func (b *Broker) awaitRevision(ctx context.Context, reg registration, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, reg.interval)
	defer cancel()
	if _, err := b.mirror.Wait(ctx, revision); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		b.logger.Debug("metadata not awaited", "revision", revision, "err", err)
	}
}

func (b *Broker) heartbeat(reg registration, wanted []*controllerv1.WantedLog) *controllerv1.HeartbeatRequest {
	seen := b.mirror.Current()
	req := &controllerv1.HeartbeatRequest{
		BrokerId: b.opts.ID, BrokerEpoch: reg.epoch, Revision: seen.Revision, Ready: b.serving.Load(),
		Stopping: b.stopping.Load(), Moves: b.moves(),
		Impairment: b.impairment().told(), DiskDelayUs: uint64(max(0, b.disk.delay.Load()) / int64(time.Microsecond)),
	}
	// A broker that has doubts is ready with the heartbeat after it has told them.
	doubts := b.doubts.next()
	if req.RecoveredLogs = doubts; len(doubts) == 0 {
		req.RecoveredLogs = b.recovered(seen, wanted)
	}
	req.Ready = req.Ready && len(doubts) < reportsAtOnce
	if b.failure.Load() != nil {
		inc := b.identity.Load()
		req.Ready = false
		req.FailedDirectoryIds = [][]byte{inc.DirectoryID[:]}
	}
	return req
}

// merge adds brokers to those that the controller has not been told of; the
// last that is known of each, and no more than a heartbeat takes.
func merge(have, more []*controllerv1.UnreachableBroker) []*controllerv1.UnreachableBroker {
	for _, u := range more {
		i := slices.IndexFunc(have, func(h *controllerv1.UnreachableBroker) bool { return h.GetBrokerId() == u.GetBrokerId() })
		switch {
		case i >= 0:
			have[i] = u
		case len(have) < mostUnreachable:
			have = append(have, u)
		}
	}
	return have
}

// beatNow sends the next heartbeat at once.
func (b *Broker) beatNow() {
	select {
	case b.beat <- struct{}{}:
	default:
	}
}

// sayGoodbye tells the controller that the broker stops. It is a courtesy:
// nothing depends on the answer.
func (b *Broker) sayGoodbye() {
	inc := b.identity.Load()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := b.opts.Controller.Heartbeat(ctx, &controllerv1.HeartbeatRequest{
		BrokerId: b.opts.ID, BrokerEpoch: inc.BrokerEpoch, Revision: b.mirror.Current().Revision, Stopping: true,
		Impairment: b.impairment().told(),
	})
	if err != nil {
		b.logger.Info("controller not told of the stop", "err", err)
	}
}

// worthRetrying tells whether a refused registration may succeed later.
func worthRetrying(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Unknown, codes.Canceled, codes.Internal:
		return true
	default:
		return false
	}
}

// isStale tells whether the controller does not know this incarnation.
func isStale(err error) bool {
	return hasReason(err, millstreamv1.ErrorReason_ERROR_REASON_STALE_BROKER_EPOCH)
}

func hasReason(err error, reason millstreamv1.ErrorReason) bool {
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*millstreamv1.RequestError); ok {
			return e.GetReason() == reason
		}
	}
	return false
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
