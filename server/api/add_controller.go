package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// AddController makes room for a controller.
func (s *ClusterService) AddController(ctx context.Context, r *pb.AddControllerRequest) (*pb.AddControllerResponse, error) {
	done, err := s.controller.AddController(ctx, &controllerv1.AddControllerRequest{
		ControllerId: r.GetControllerId(), Address: r.GetAddress(), ValidateOnly: r.GetValidateOnly(),
	})
	if err != nil {
		return nil, err
	}
	return &pb.AddControllerResponse{Controllers: controllersOf(done.GetControllers())}, nil
}
