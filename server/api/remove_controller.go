package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// RemoveController takes a controller out.
func (s *ClusterService) RemoveController(ctx context.Context, r *pb.RemoveControllerRequest) (*pb.RemoveControllerResponse, error) {
	done, err := s.controller.RemoveController(ctx, &controllerv1.RemoveControllerRequest{
		ControllerId: r.GetControllerId(), Address: r.GetAddress(), ValidateOnly: r.GetValidateOnly(),
	})
	if err != nil {
		return nil, err
	}
	return &pb.RemoveControllerResponse{Controllers: controllersOf(done.GetControllers())}, nil
}
