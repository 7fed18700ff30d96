package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// ListControllers lists the controllers.
func (s *ClusterService) ListControllers(ctx context.Context, _ *pb.ListControllersRequest) (*pb.ListControllersResponse, error) {
	done, err := s.controller.ListControllers(ctx, new(controllerv1.ListControllersRequest))
	if err != nil {
		return nil, err
	}
	return &pb.ListControllersResponse{Controllers: controllersOf(done.GetControllers())}, nil
}

func controllersOf(list []*controllerv1.ControllerRecord) []*pb.Controller {
	out := make([]*pb.Controller, len(list))
	for i, c := range list {
		out[i] = &pb.Controller{
			ControllerId: c.GetControllerId(), Address: c.GetAddress(), Learner: c.GetLearner(), Active: c.GetActive(), Reachable: c.GetReachable(),
		}
	}
	return out
}
