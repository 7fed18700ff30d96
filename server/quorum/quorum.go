// Package quorum makes of connections to all controllers one to the active
// controller: it finds that one and follows it.
//
// It owns which controller is asked, whether a call is made again, and, where
// there is a Directory, the connections to those that controllers name. It
// refuses to own what is asked.
//
// INVARIANT: a call is made again only when no controller can have carried it
// out: it was not sent, or the controller said that it is not the active one.
// Any other error is the caller's, as it came.
//
// It starts no goroutine. A Directory has connections, and is closed by who made
// it; a Quorum has none.
package quorum

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

const (
	// defaultPatience is for how long a call looks for the active controller
	// while others are there: an election takes a second or two.
	defaultPatience = 5 * time.Second
	// After all have been asked there is a pause before they are again.
	firstPause = 20 * time.Millisecond
	mostPause  = 250 * time.Millisecond
)

// Options are what a Quorum needs. The zero value of a field stands for its
// default, where there is one.
type Options struct {
	// Controllers are connections to all of them, at least one, until there are
	// others (replace); their owner closes them.
	Controllers []grpc.ClientConnInterface
	// Patience is for how long a call looks for the active controller.
	Patience time.Duration
	// Logger; nil: none.
	Logger *slog.Logger
}

// Quorum is a connection to the active controller. Its methods may be called
// from any goroutine.
type Quorum struct {
	o    Options
	ring atomic.Pointer[[]*seat] // never empty; replaced whole
	at   atomic.Pointer[seat]    // the controller that is asked first
	// watched counts streams, which go to the controllers in turn.
	watched atomic.Uint32

	mu    sync.Mutex // guards index, and is held by replace
	index map[int32]*seat
}

// seat is where a controller is reached. It is compared by its address in
// memory.
type seat struct{ conn grpc.ClientConnInterface }

// New returns a connection to the active one of the controllers.
func New(o Options) (*Quorum, error) {
	if len(o.Controllers) == 0 {
		return nil, errors.New("quorum: no controllers")
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Quorum{o: o, index: map[int32]*seat{}}
	ring := make([]*seat, len(o.Controllers))
	for i, conn := range o.Controllers {
		ring[i] = &seat{conn}
	}
	q.ring.Store(&ring)
	q.at.Store(ring[0])
	return q, nil
}

// replace has other controllers asked from now on; those that stay keep their
// seats. A call that is on its way to one that is gone goes on.
//
// REQUIRES: there is one at least.
func (q *Quorum) replace(ring []*seat) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, s := range q.index {
		if !slices.Contains(ring, s) {
			delete(q.index, id)
		}
	}
	q.ring.Store(&ring)
	if at := q.at.Load(); !slices.Contains(ring, at) {
		q.at.CompareAndSwap(at, ring[0])
	}
}

// following returns who is asked after another; the first, if that one is gone.
func (q *Quorum) following(at *seat) *seat {
	ring := *q.ring.Load()
	return ring[(slices.Index(ring, at)+1)%len(ring)]
}

// gone tells whether a controller is none any more.
func (q *Quorum) gone(s *seat) bool { return !slices.Contains(*q.ring.Load(), s) }

// Client returns the service of the active controller.
func (q *Quorum) Client() controllerv1.ControllerServiceClient {
	return controllerv1.NewControllerServiceClient(q)
}

// NewStream is part of grpc.ClientConnInterface. Streams are watches, which
// any controller serves: they take turns.
func (q *Quorum) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ring := *q.ring.Load()
	i := (q.watched.Add(1) - 1) % uint32(len(ring))
	return ring[i].conn.NewStream(ctx, desc, method, opts...)
}

// Invoke is part of grpc.ClientConnInterface: it has the active controller
// carry out a call.
func (q *Quorum) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	s := search{q: q, begun: time.Now(), pause: firstPause}
	for {
		at := q.at.Load()
		var to peer.Peer
		err := at.conn.Invoke(ctx, method, args, reply, slices.Concat(opts, []grpc.CallOption{grpc.Peer(&to)})...)
		if err == nil {
			return nil
		}
		// gRPC names the other side of every call that it began to send.
		v := q.judge(at, err, to.Addr != nil)
		if v.next != at && q.at.CompareAndSwap(at, v.next) {
			q.o.Logger.Debug("another controller is asked", slog.Any("err", err))
		}
		if !v.again || !s.goOn(ctx, v.answered) {
			return q.ended(ctx, at, err)
		}
	}
}

// ended makes of the end of a call with the connection to a controller that is
// none any more what it would be had that one died: nobody else has given up.
func (q *Quorum) ended(ctx context.Context, at *seat, err error) error {
	if status.Code(err) == codes.Canceled && ctx.Err() == nil && q.gone(at) {
		return status.Error(codes.Unavailable, "the controller that was asked is none any more")
	}
	return err
}

// verdict is what follows from a failed call.
type verdict struct {
	next     *seat // who is asked from now on
	again    bool  // the call was surely not carried out
	answered bool  // by a controller that is there
}

// judge decides what follows from the error of a call to a controller.
func (q *Quorum) judge(at *seat, err error, sent bool) verdict {
	following := q.following(at)
	if q.gone(at) && !sent {
		return verdict{next: following, again: true, answered: true} // its connection was closed
	}
	if f := rpc.FaultFromStatus(err); f != nil {
		if f.Reason != pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE {
			return verdict{next: at, answered: true}
		}
		next := q.active(at, f.Metadata)
		if next == at {
			next = following
		}
		return verdict{next: next, again: true, answered: true}
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return verdict{next: following, again: !sent}
	case codes.DeadlineExceeded: // it hangs, or it waits for an election
		return verdict{next: following}
	default:
		return verdict{next: at}
	}
}

// active returns who is active by what a controller says that is not; itself
// if that helps nobody. Addresses come without identities, so each controller
// is learnt by what it says of itself.
func (q *Quorum) active(at *seat, said map[string]string) *seat {
	q.mu.Lock()
	defer q.mu.Unlock()
	if self, err := strconv.ParseInt(said["controllerId"], 10, 32); err == nil && self >= 0 && !q.gone(at) {
		q.index[int32(self)] = at
	}
	id, err := strconv.ParseInt(said["activeControllerId"], 10, 32)
	if err != nil || id < 0 {
		return at
	}
	if i, known := q.index[int32(id)]; known {
		return i
	}
	return at
}

// search is one call's search for the active controller.
type search struct {
	q        *Quorum
	begun    time.Time
	pause    time.Duration
	tries    int
	answered bool // by some controller since the last pause
}

// goOn tells whether the call is to be made again, after a pause when all were
// asked.
func (s *search) goOn(ctx context.Context, answered bool) bool {
	s.tries++
	s.answered = s.answered || answered
	if s.tries%len(*s.q.ring.Load()) != 0 {
		return ctx.Err() == nil
	}
	// Without anybody there, no election is under way.
	if !s.answered || time.Since(s.begun) >= s.q.o.Patience {
		return false
	}
	s.answered = false
	t := time.NewTimer(s.pause)
	defer t.Stop()
	s.pause = min(2*s.pause, mostPause)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
