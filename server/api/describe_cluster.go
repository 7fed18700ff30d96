package api

import (
	"context"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// DescribeCluster says what the cluster is.
func (s *ClusterService) DescribeCluster(context.Context, *pb.DescribeClusterRequest) (*pb.DescribeClusterResponse, error) {
	m := s.metadata.Current()
	c := count(m)
	return &pb.DescribeClusterResponse{
		ClusterId: m.ClusterID[:], ClusterGeneration: m.Generation, Brokers: brokersOf(m, c), ActiveControllerId: m.ActiveController,
		TopicCount: uint32(m.TopicCount()), PartitionCount: c.partitions, Revision: m.Revision, Version: s.version,
		AnsweringBrokerId: s.broker.ID(), OfflinePartitionCount: c.offline, UnderReplicatedPartitionCount: c.underReplicated,
		UnderMinInsyncPartitionCount: c.underMinISR, ReassigningPartitionCount: c.moving,
	}, nil
}
