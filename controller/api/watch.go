package api

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/metahash"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// frameBytes is how large a frame of a watch grows before the next begins:
// well below the 4 MiB that a gRPC client takes, as one change may come on top.
const frameBytes = 1 << 20

var (
	errTooManyWatchers = errors.New("too many watches of the metadata")
	errDraining        = errors.New("the controller is stopping")
)

// WatchMetadata is part of ControllerService. It ends with SHUTTING_DOWN when
// the controller stops.
func (s *Service) WatchMetadata(r *controllerv1.WatchMetadataRequest, stream grpc.ServerStreamingServer[controllerv1.WatchMetadataResponse]) error {
	if r.GetRevision() < 0 {
		return &FieldError{"revision", "is negative"}
	}
	if err := caller.CheckBrokerOrController(stream.Context(), s.o.Callers, r.GetBrokerId()); err != nil {
		return err
	}
	if s.watchers.Add(1) > maxWatchers {
		s.watchers.Add(-1)
		return errTooManyWatchers
	}
	defer s.watchers.Add(-1)
	w := &watch{Service: s, send: stream.Send, at: r.GetRevision(), generation: r.GetClusterGeneration(), active: untold}
	s.o.Logger.Debug("metadata watch begins", slog.Int("broker_id", int(r.GetBrokerId())), slog.Int64("revision", r.GetRevision()))
	return w.run(stream.Context())
}

// untold is no controller, and not "none is known" either.
const untold = -2

// watch is one broker's watch. It holds nothing of the metadata but how far
// the broker has come, so a broker that does not read costs nothing more.
type watch struct {
	*Service
	send       func(*controllerv1.WatchMetadataResponse) error
	at         int64
	generation uint32
	active     int32
	named      time.Time // when the broker was last told of the controllers
	hashed     time.Time // when it was last told what all comes to
}

// hashInterval is how often a broker is told what all metadata comes to: that
// takes a look at all of it, on both sides.
const hashInterval = time.Minute

// hash tells in a frame what all comes to at its revision, if the image is
// there still.
func (w *watch) hash(f *controllerv1.WatchMetadataResponse) {
	now := time.Now()
	if !w.hashed.IsZero() && now.Sub(w.hashed) < hashInterval {
		return
	}
	if n, ok := w.o.Image.Hash(f.GetRevision(), f.GetClusterGeneration()); ok {
		w.hashed, f.Hash = now, &controllerv1.MetadataHash{Form: metahash.Form, Value: n}
	}
}

// name tells in a frame where the controllers are. WHY not only in those that
// confirm: none is sent while something changes all the time.
func (w *watch) name(f *controllerv1.WatchMetadataResponse) {
	if now := time.Now(); now.Sub(w.named) >= w.o.ConfirmInterval/2 {
		w.named, f.Controllers = now, w.o.Serving()
	}
}

func (w *watch) run(ctx context.Context) error {
	if err := w.loaded(ctx); err != nil {
		return err
	}
	w.catchUp(ctx)
	confirm := time.NewTicker(w.o.ConfirmInterval)
	defer confirm.Stop()
	for {
		changed := w.o.Image.Changed()
		c := w.o.Image.After(w.at, w.generation)
		if c.Snapshot || c.Revision > w.at || c.Active != w.active {
			if err := w.tell(c); err != nil {
				return err
			}
			continue // more may have come meanwhile
		}
		select {
		case <-changed:
		case <-confirm.C:
			if err := w.confirm(ctx); err != nil {
				return err
			}
		case <-w.drain:
			return errDraining
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// loaded waits until there is a cluster to tell of.
func (w *watch) loaded(ctx context.Context) error {
	for {
		changed := w.o.Image.Changed()
		there := false
		w.o.Image.Read(func(v *image.View) { there = v.Cluster.Record != nil })
		if there {
			return nil
		}
		select {
		case <-changed:
		case <-w.drain:
			return errDraining
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// catchUp waits, for one interval, until the image has come as far as the
// broker says it has: the broker may have been at a controller that is ahead
// of this one.
func (w *watch) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.o.ConfirmInterval)
	defer cancel()
	if newest, err := w.newest(ctx); err == nil {
		// An error says that time is up, and a snapshot is what is left.
		_ = w.o.Image.Wait(ctx, min(w.at, newest))
	}
}

// newest returns the revision of the store, confirmed by a quorum.
func (w *watch) newest(ctx context.Context) (int64, error) {
	page, err := w.o.KV.Range(ctx, store.Range{Prefix: store.ElectionKey.String(), Limit: 1})
	return page.Revision, err
}

// confirm tells the broker that it is up to date, if a quorum says so. If none
// does, silence is what the broker is to hear.
func (w *watch) confirm(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, w.o.ConfirmInterval)
	defer cancel()
	newest, err := w.newest(short)
	if err != nil || newest > w.at {
		return nil // the loop tells what is new first
	}
	f := &controllerv1.WatchMetadataResponse{Revision: w.at, ClusterGeneration: w.generation, ActiveControllerId: w.active}
	w.name(f)
	w.hash(f)
	return w.send(f)
}

// tell sends changes, or a snapshot, in as many frames as it takes. The last
// has the revision.
func (w *watch) tell(c image.Changes) error {
	f := &controllerv1.WatchMetadataResponse{SnapshotBegin: c.Snapshot, ClusterGeneration: c.Generation, ActiveControllerId: c.Active}
	size := 0
	for _, change := range c.List {
		n := proto.Size(change)
		if size > 0 && size+n > frameBytes {
			if err := w.send(f); err != nil {
				return err
			}
			f = &controllerv1.WatchMetadataResponse{ClusterGeneration: c.Generation, ActiveControllerId: c.Active}
			size = 0
		}
		f.Changes = append(f.Changes, change)
		size += n
	}
	f.SnapshotEnd, f.Revision = c.Snapshot, c.Revision
	w.name(f)
	w.hash(f)
	if err := w.send(f); err != nil {
		return err
	}
	w.at, w.generation, w.active = c.Revision, c.Generation, c.Active
	return nil
}
