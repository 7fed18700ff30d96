package api

import (
	"context"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// DescribeCluster says what the cluster is.
func (s *ClusterService) DescribeCluster(context.Context, *pb.DescribeClusterRequest) (*pb.DescribeClusterResponse, error) {
	m := s.metadata.Current()
	brokers, partitions := brokersOf(m)
	return &pb.DescribeClusterResponse{
		ClusterId: m.ClusterID[:], ClusterGeneration: m.Generation, Brokers: brokers, ActiveControllerId: m.ActiveController,
		TopicCount: uint32(m.TopicCount()), PartitionCount: partitions, Revision: m.Revision, Version: s.version,
		AnsweringBrokerId: s.broker.ID(),
	}, nil
}
