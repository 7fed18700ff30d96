package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// CreateTopic is part of ControllerService.
func (s *Service) CreateTopic(ctx context.Context, r *controllerv1.CreateTopicRequest) (*controllerv1.CreateTopicResponse, error) {
	if err := checkCreateTopic(r); err != nil {
		return nil, err
	}
	return s.o.Loop.CreateTopic(ctx, r)
}

// UpdateTopicConfig is part of ControllerService.
func (s *Service) UpdateTopicConfig(ctx context.Context, r *controllerv1.UpdateTopicConfigRequest) (*controllerv1.UpdateTopicConfigResponse, error) {
	if err := checkUpdateTopicConfig(r); err != nil {
		return nil, err
	}
	return s.o.Loop.UpdateTopicConfig(ctx, r)
}

// DeleteTopic is part of ControllerService.
func (s *Service) DeleteTopic(ctx context.Context, r *controllerv1.DeleteTopicRequest) (*controllerv1.DeleteTopicResponse, error) {
	if err := checkDeleteTopic(r); err != nil {
		return nil, err
	}
	return s.o.Loop.DeleteTopic(ctx, r)
}
