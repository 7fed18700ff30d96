package api

import (
	"slices"
	"sync"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
)

// ClusterService describes the cluster as this broker knows it, and has the
// controller change it: this broker checks, passes on, and waits until it has
// seen the change. Its methods are safe for concurrent use.
type ClusterService struct {
	pb.UnimplementedClusterServiceServer

	broker     Broker
	metadata   *metadata.Mirror
	controller controllerv1.ControllerServiceClient
	version    string
	stall      time.Duration   // for how long a client may leave a piece of a backup unread
	streams    *sync.WaitGroup // goroutines of streams
}

// tally is what the partitions of a snapshot come to.
type tally struct {
	partitions, offline, underReplicated, underMinISR, moving uint32
	leads, holds, behind                                      map[int32]uint32 // by broker
}

func count(m *metadata.Snapshot) *tally {
	c := &tally{leads: make(map[int32]uint32), holds: make(map[int32]uint32), behind: make(map[int32]uint32)}
	for _, t := range m.Topics() {
		for _, p := range t.Partitions {
			c.add(p)
		}
	}
	return c
}

func (c *tally) add(p *metadata.Partition) {
	c.partitions++
	c.leads[p.Leader]++
	under := false
	for _, id := range p.Replicas {
		c.holds[id]++
		if !slices.Contains(p.ISR, id) {
			c.behind[id]++
			under = under || !slices.Contains(p.Adding, id)
		}
	}
	tick := func(n *uint32, is bool) {
		if is {
			*n++
		}
	}
	tick(&c.offline, p.Leader == metadata.NoLeader)
	tick(&c.underReplicated, under && p.Leader != metadata.NoLeader)
	tick(&c.underMinISR, len(p.ISR) < p.EffectiveMinISR() && p.Leader != metadata.NoLeader)
	tick(&c.moving, len(p.Target) > 0)
}

// brokersOf returns the brokers by id, with what they hold.
func brokersOf(m *metadata.Snapshot, c *tally) []*pb.Broker {
	var brokers []*pb.Broker
	for _, b := range m.Brokers() {
		brokers = append(brokers, &pb.Broker{
			BrokerId: b.ID, Address: b.Address, BrokerEpoch: b.Epoch, Rack: b.Rack, State: stateOf(b), Version: b.Version,
			RegisterTime: timestampOf(b.RegisterTimeMs), LeaderCount: c.leads[b.ID], ReplicaCount: c.holds[b.ID],
			OutOfSyncReplicaCount: c.behind[b.ID], Draining: b.Draining, DrainBytesPerSecond: b.DrainBytesPerSecond,
			Impairment: impairmentOf(b),
		})
	}
	return brokers
}

func impairmentOf(b *metadata.Broker) pb.BrokerImpairment {
	switch b.Impairment {
	case controllerv1.Impairment_IMPAIRMENT_SLOW_DISK:
		return pb.BrokerImpairment_BROKER_IMPAIRMENT_SLOW_DISK
	case controllerv1.Impairment_IMPAIRMENT_DISK_FULL:
		return pb.BrokerImpairment_BROKER_IMPAIRMENT_DISK_FULL
	case controllerv1.Impairment_IMPAIRMENT_DISK_READ_ONLY:
		return pb.BrokerImpairment_BROKER_IMPAIRMENT_DISK_READ_ONLY
	case controllerv1.Impairment_IMPAIRMENT_DISK_ERROR:
		return pb.BrokerImpairment_BROKER_IMPAIRMENT_DISK_ERROR
	case controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED:
	}
	return pb.BrokerImpairment_BROKER_IMPAIRMENT_UNSPECIFIED
}

func stateOf(b *metadata.Broker) pb.BrokerState {
	switch {
	case b.Stopping:
		return pb.BrokerState_BROKER_STATE_STOPPING
	case b.Fenced:
		return pb.BrokerState_BROKER_STATE_FENCED
	default:
		return pb.BrokerState_BROKER_STATE_ACTIVE
	}
}
