package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// UpdateTopicConfig changes settings of a topic.
func (s *TopicService) UpdateTopicConfig(ctx context.Context, r *pb.UpdateTopicConfigRequest) (*pb.UpdateTopicConfigResponse, error) {
	if err := topicconfig.ValidateName(r.GetTopic()); err != nil {
		return nil, err
	}
	// Each setting for itself; with those that are set already the controller
	// checks them.
	if _, _, err := topicconfig.Change(nil, r.GetSet(), r.GetReset_()); err != nil {
		return nil, err
	}
	if r.ExpectedRevision != nil && r.GetExpectedRevision() < 0 {
		return nil, fieldFault("expected_revision", "must not be negative")
	}
	if err := checkRequestID(r.GetRequestId()); err != nil {
		return nil, err
	}
	done, err := s.controller.UpdateTopicConfig(ctx, &controllerv1.UpdateTopicConfigRequest{
		Topic: r.GetTopic(), Set: r.GetSet(), Reset_: r.GetReset_(), ValidateOnly: r.GetValidateOnly(),
		ExpectedRevision: r.ExpectedRevision, RequestId: r.GetRequestId(),
	})
	if err != nil {
		return nil, err
	}
	if !r.GetValidateOnly() {
		if _, err := s.metadata.Wait(ctx, done.GetRevision()); err != nil {
			return nil, err
		}
	}
	t, err := describeRecord(done.GetTopic(), done.GetRevision())
	return &pb.UpdateTopicConfigResponse{Topic: t}, err
}
