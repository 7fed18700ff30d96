// Package api is the public gRPC API of a broker: one file for each call, and
// the mapping of typed errors to what clients are told (errors.go).
//
// It owns the streams of clients: what they may hold, in which order they are
// answered, when they end. It refuses to own what is behind a call: partitions
// (server/partition), metadata (server/metadata), the controller, the bytes of
// messages (server/wire) and of records (storage/record).
//
// INVARIANT: a request gets exactly one answer, or its stream ends with a
// reason. Everything that a client can make the broker hold is bounded by
// Limits, and what exceeds a limit gets an error that names it.
//
// Goroutines: two for each bidirectional stream, one for each Read, beside the
// handler's own, which gRPC releases when the handler returns; Wait waits for
// them. Nothing else is started, and nothing has to be closed.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// maxRequestBytes is the largest message that gRPC hands over (rpc.NewServer).
const maxRequestBytes = 2 * rpc.DefaultMaxRequestBytes

// Broker is what the API needs of a broker. *broker.Broker is one.
type Broker interface {
	// ID returns the broker's identity.
	ID() int32
	// PartitionOf returns a partition that the broker leads, or why it does not.
	PartitionOf(topic *metadata.Topic, id uint32) (*partition.Partition, error)
	// ReplicaOf returns a partition that the broker leads, or that it follows and
	// may serve to readers, or why neither.
	ReplicaOf(topic *metadata.Topic, id uint32) (*partition.Partition, error)
	// Budget returns the budget for requests in flight.
	Budget() *broker.Budget
	// Orphans lists what is in the data directory and is nobody's.
	Orphans() ([]broker.Orphan, error)
}

// BrokerService appends records to partitions and reads them back. Its methods
// are safe for concurrent use.
type BrokerService struct {
	pb.UnimplementedBrokerServiceServer

	broker   Broker
	metadata *metadata.Mirror
	limits   Limits
	logger   *slog.Logger
	metrics  *brokerMetrics
	budget   *broker.Budget
	// receiving bounds the large messages of Produce streams that are on their
	// way, as many bytes as may be in flight.
	receiving *broker.Budget
	reading   *broker.Budget // what Fetch and Read hold for clients
	// passing bounds the frames of other brokers that are not sent yet, as many
	// bytes as reading.
	passing *broker.Budget
	forwarding
	internal bool          // for other brokers, not for clients
	spread   atomic.Uint32 // rises with each Append whose records are spread

	draining chan struct{} // closed by Drain
	drain    sync.Once
	streams  sync.WaitGroup // goroutines of streams
}

func newBrokerService(o Options) (*BrokerService, error) {
	s := &BrokerService{
		broker: o.Broker, metadata: o.Metadata, limits: o.Limits, logger: o.Logger,
		budget: o.Broker.Budget(), receiving: broker.NewBudget(o.Broker.Budget().Limit()),
		reading: broker.NewBudget(o.Limits.ReadingBytes), passing: broker.NewBudget(o.Limits.ReadingBytes), draining: make(chan struct{}),
		forwarding: newForwarding(o, false),
	}
	var err error
	if s.metrics, err = newBrokerMetrics(o.Registerer, s.reading, s.receiving); err != nil {
		return nil, err
	}
	return s, registerForwarding(o.Registerer, o.calls, s.passing)
}

// Drain tells every stream to end. It does not wait.
func (s *BrokerService) Drain() { s.drain.Do(func() { close(s.draining) }) }

// Wait waits for the goroutines of streams whose handlers have returned.
func (s *BrokerService) Wait() { s.streams.Wait() }

// endReading is called by the handler of a Fetch or Read that returns. If the
// context of the transport's stream has ended already, the stream is gone.
func (s *BrokerService) endReading(ctx context.Context, r *reading) {
	r.end(ctx.Err() != nil, s.limits.StallTimeout, func() {
		s.metrics.cut.Inc()
		rpc.CutConnection(ctx)
	})
}

// faultOf says how an error is told inside a stream.
func (s *BrokerService) faultOf(err error) *rpc.Fault {
	f := FaultOf(err)
	switch {
	case f == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return rpc.ShuttingDownFault() // nobody is left to be told
	case f == nil:
		s.logger.Error("request failed", slog.Any("err", err))
		return rpc.InternalFault()
	}
	return s.withLeader(f)
}

// withLeader adds where the leader is, which a partition does not know.
func (s *BrokerService) withLeader(f *rpc.Fault) *rpc.Fault {
	if f.Leader == nil || f.Leader.GetAddress() != "" {
		return f
	}
	m := s.metadata.Current()
	if b := m.Broker(f.Leader.GetBrokerId()); b != nil {
		f.Leader.Address = b.Address
	}
	f.Leader.Revision = m.Revision
	return f
}

// noTopic says why there is no topic of a name.
func noTopic(name string) error {
	if err := topicconfig.ValidateName(name); err != nil {
		return err
	}
	return &broker.UnknownTopicError{Topic: name}
}

// otherTopic says that the topic of that name has another identity.
func otherTopic(name string) *rpc.Fault {
	return unknownResource("topic", name, fmt.Sprintf("topic %q has another topic_id: it was created anew", name))
}

// snapshot returns the metadata, of at least the given revision.
func (s *BrokerService) snapshot(ctx context.Context, revision int64) (*metadata.Snapshot, error) {
	return waitRevision(ctx, ctx, s.metadata, revision, s.limits)
}

// waitRevision waits until a deadline of its own or that of `until`, which is
// derived from ctx; the end of ctx is another matter.
func waitRevision(ctx, until context.Context, m *metadata.Mirror, revision int64, l Limits) (*metadata.Snapshot, error) {
	// Before its first snapshot a broker knows of nothing, not even that a topic
	// does not exist.
	revision = max(revision, 1)
	if s := m.Current(); s.Revision >= revision {
		return s, nil
	}
	wait, cancel := context.WithTimeout(until, l.RevisionWait)
	defer cancel()
	s, err := m.Wait(wait, revision)
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, notFresh(revision)
}

// topicOf returns a topic, as the metadata of at least the given revision has
// it.
func (s *BrokerService) topicOf(ctx context.Context, name string, revision int64) (*metadata.Topic, error) {
	return s.topicUntil(ctx, ctx, name, revision)
}

// topicUntil is topicOf with a deadline, that of `until`, for the metadata.
func (s *BrokerService) topicUntil(ctx, until context.Context, name string, revision int64) (*metadata.Topic, error) {
	m, err := waitRevision(ctx, until, s.metadata, revision, s.limits)
	if err != nil {
		return nil, err
	}
	if t := m.TopicByName(name); t != nil {
		return t, nil
	}
	return nil, noTopic(name)
}
