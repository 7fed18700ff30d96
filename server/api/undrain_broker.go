package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// UndrainBroker makes a broker take replicas again.
func (s *ClusterService) UndrainBroker(ctx context.Context, r *pb.UndrainBrokerRequest) (*pb.UndrainBrokerResponse, error) {
	if err := checkBrokerID(r.GetBrokerId()); err != nil {
		return nil, err
	}
	done, err := s.controller.UndrainBroker(ctx, &controllerv1.UndrainBrokerRequest{
		BrokerId: r.GetBrokerId(), ValidateOnly: r.GetValidateOnly(),
	})
	if err := s.seen(ctx, done.GetRevision(), err); err != nil {
		return nil, err
	}
	return &pb.UndrainBrokerResponse{Revision: done.GetRevision()}, nil
}
