package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// RemoveBroker forgets a broker.
func (s *ClusterService) RemoveBroker(ctx context.Context, r *pb.RemoveBrokerRequest) (*pb.RemoveBrokerResponse, error) {
	if err := checkBrokerID(r.GetBrokerId()); err != nil {
		return nil, err
	}
	done, err := s.controller.RemoveBroker(ctx, &controllerv1.RemoveBrokerRequest{
		BrokerId: r.GetBrokerId(), ValidateOnly: r.GetValidateOnly(),
	})
	if err := s.seen(ctx, done.GetRevision(), err); err != nil {
		return nil, err
	}
	return &pb.RemoveBrokerResponse{Revision: done.GetRevision()}, nil
}
