package api

import (
	"context"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// ListBrokers lists the brokers.
func (s *ClusterService) ListBrokers(context.Context, *pb.ListBrokersRequest) (*pb.ListBrokersResponse, error) {
	m := s.metadata.Current()
	return &pb.ListBrokersResponse{Brokers: brokersOf(m, count(m))}, nil
}
