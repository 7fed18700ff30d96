package api

import (
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
)

// ClusterService describes the cluster as this broker knows it. Its methods
// are safe for concurrent use.
type ClusterService struct {
	pb.UnimplementedClusterServiceServer

	broker   Broker
	metadata *metadata.Mirror
	version  string
}

// brokersOf returns the brokers by id, with what they hold.
func brokersOf(m *metadata.Snapshot) (brokers []*pb.Broker, partitions uint32) {
	leads, holds := make(map[int32]uint32), make(map[int32]uint32)
	for _, t := range m.Topics() {
		partitions += uint32(len(t.Partitions))
		for _, p := range t.Partitions {
			leads[p.Leader]++
			for _, r := range p.Replicas {
				holds[r]++
			}
		}
	}
	for _, b := range m.Brokers() {
		brokers = append(brokers, &pb.Broker{
			BrokerId: b.ID, Address: b.Address, BrokerEpoch: b.Epoch, Rack: b.Rack, State: stateOf(b), Version: b.Version,
			RegisterTime: timestampOf(b.RegisterTimeMs), LeaderCount: leads[b.ID], ReplicaCount: holds[b.ID],
		})
	}
	return brokers, partitions
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
