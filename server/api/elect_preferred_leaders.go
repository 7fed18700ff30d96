package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// ElectPreferredLeaders has partitions led by the first of their replicas.
func (s *ClusterService) ElectPreferredLeaders(ctx context.Context, r *pb.ElectPreferredLeadersRequest) (*pb.ElectPreferredLeadersResponse, error) {
	if r.GetTopic() != "" {
		if err := topicconfig.ValidateName(r.GetTopic()); err != nil {
			return nil, err
		}
	}
	done, err := s.controller.ElectPreferredLeaders(ctx, &controllerv1.ElectPreferredLeadersRequest{
		Topic: r.GetTopic(), ValidateOnly: r.GetValidateOnly(),
	})
	if err := s.seen(ctx, done.GetRevision(), err); err != nil {
		return nil, err
	}
	return &pb.ElectPreferredLeadersResponse{
		ElectedCount: done.GetElected(), NotPossibleCount: done.GetNotPossible(), Revision: done.GetRevision(),
	}, nil
}
