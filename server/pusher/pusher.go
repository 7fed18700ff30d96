package pusher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

// Options are what the service is made of.
type Options struct {
	// Self is this broker.
	Self int32
	// Identity is its incarnation.
	Identity func() Identity
	// Partition returns a partition that this broker holds, open; nil: it holds
	// none of that name, or cannot open it.
	Partition func(record.TopicID, record.PartitionID) *partition.Partition
	// Epoch is the newest incarnation of a broker that is known here; 0: none.
	Epoch func(broker int32) int64
	// Revision is that of the metadata here.
	Revision func() int64
	// Callers says which broker calls; nil: there are no certificates.
	Callers caller.Func
	// Logger takes changes of state; slog.Default unless set.
	Logger *slog.Logger
}

// Identity is who leads.
type Identity struct {
	ClusterID   [16]byte
	Generation  uint32
	BrokerEpoch int64
}

// Service is ReplicationService.
type Service struct {
	replicationv1.UnimplementedReplicationServiceServer
	o      Options
	logger *slog.Logger

	begun time.Duration // as partition.Uptime

	mu      sync.Mutex // guards what follows; nothing else is done under it
	streams map[place]*stream
	left    map[int32]time.Duration // when the last stream ended of a broker that has none; no more than there are brokers
}

// awayAfter is how long a broker has no stream here before it counts as away:
// longer than it takes to connect again.
const awayAfter = time.Second

// Away tells whether a broker has had no stream here for a while.
func (s *Service) Away(broker int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connected(broker) {
		return false
	}
	since, ok := s.left[broker]
	if !ok {
		since = s.begun
	}
	return partition.Uptime()-since >= awayAfter
}

// connected tells whether a broker has a stream.
//
// REQUIRES: mu is held.
func (s *Service) connected(broker int32) bool {
	return s.streams[place{broker, replicationv1.Lane_LANE_TAIL}] != nil || s.streams[place{broker, replicationv1.Lane_LANE_CATCH_UP}] != nil
}

// place is where a stream belongs: there is one of each.
type place struct {
	broker int32
	lane   replicationv1.Lane
}

// New returns the service.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Service{o: o, logger: o.Logger, begun: partition.Uptime(), streams: make(map[place]*stream), left: make(map[int32]time.Duration)}
}

// errSuperseded says that the follower has opened another stream.
var errSuperseded = errors.New("there is a newer stream of this follower")

// Replicate serves one stream of a follower.
func (s *Service) Replicate(call grpc.BidiStreamingServer[replicationv1.ReplicateRequest, replicationv1.ReplicateResponse]) error {
	first, err := call.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if err := s.check(call.Context(), hello); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(call.Context())
	defer cancel(nil)
	st := newStream(s, ctx, cancel, call, hello)
	at := place{hello.GetBrokerId(), hello.GetLane()}
	s.mu.Lock()
	before := s.streams[at]
	s.streams[at] = st
	delete(s.left, at.broker)
	s.mu.Unlock()
	defer func() {
		known := s.o.Epoch(at.broker) > 0
		s.mu.Lock()
		if s.streams[at] == st {
			delete(s.streams, at)
			if known && !s.connected(at.broker) {
				s.left[at.broker] = partition.Uptime()
			}
		}
		s.mu.Unlock()
		st.end()
		close(st.ended)
	}()
	if before != nil {
		before.cancel(status.Error(codes.Aborted, errSuperseded.Error()))
		<-before.ended
	}
	id := s.o.Identity()
	if err := call.Send(&replicationv1.ReplicateResponse{
		Hello: &replicationv1.LeaderHello{BrokerId: s.o.Self, BrokerEpoch: id.BrokerEpoch},
	}); err != nil {
		return err
	}
	s.logger.Info("follower connected", "follower", hello.GetBrokerId(), "broker_epoch", hello.GetBrokerEpoch(), "lane", hello.GetLane().String())
	return st.serve()
}

// check refuses who may not follow.
func (s *Service) check(ctx context.Context, h *replicationv1.FollowerHello) error {
	id := s.o.Identity()
	refuse := func(format string, a ...any) error {
		return status.Error(codes.FailedPrecondition, fmt.Sprintf(format, a...))
	}
	if h == nil {
		return status.Error(codes.InvalidArgument, "hello: must be the first message")
	}
	if err := caller.CheckBroker(ctx, s.o.Callers, h.GetBrokerId()); err != nil {
		return err
	}
	switch {
	case h.GetBrokerId() < 0 || h.GetBrokerId() == s.o.Self:
		return refuse("hello.broker_id %d cannot follow broker %d", h.GetBrokerId(), s.o.Self)
	case string(h.GetClusterId()) != string(id.ClusterID[:]):
		return refuse("hello.cluster_id is another cluster's")
	case h.GetClusterGeneration() != id.Generation:
		return refuse("hello.cluster_generation is %d, and %d here", h.GetClusterGeneration(), id.Generation)
	case h.GetBrokerEpoch() < s.o.Epoch(h.GetBrokerId()):
		return refuse("hello.broker_epoch %d is followed by a later incarnation", h.GetBrokerEpoch())
	case h.GetLane() != replicationv1.Lane_LANE_TAIL && h.GetLane() != replicationv1.Lane_LANE_CATCH_UP:
		return status.Error(codes.InvalidArgument, "hello.lane: must be given")
	}
	return nil
}
