package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// DrainBroker has everything moved away from a broker.
func (s *ClusterService) DrainBroker(ctx context.Context, r *pb.DrainBrokerRequest) (*pb.DrainBrokerResponse, error) {
	if err := checkBrokerID(r.GetBrokerId()); err != nil {
		return nil, err
	}
	done, err := s.controller.DrainBroker(ctx, &controllerv1.DrainBrokerRequest{
		BrokerId: r.GetBrokerId(), BytesPerSecond: r.GetBytesPerSecond(), ValidateOnly: r.GetValidateOnly(),
	})
	if err := s.seen(ctx, done.GetRevision(), err); err != nil {
		return nil, err
	}
	return &pb.DrainBrokerResponse{ReplicaCount: done.GetReplicas(), Revision: done.GetRevision()}, nil
}
