package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/caller"
)

// RegisterBroker is part of ControllerService.
func (s *Service) RegisterBroker(ctx context.Context, r *controllerv1.RegisterBrokerRequest) (*controllerv1.RegisterBrokerResponse, error) {
	if err := checkRegistration(r); err != nil {
		return nil, err
	}
	if err := caller.CheckBroker(ctx, s.o.Callers, r.GetBrokerId()); err != nil {
		return nil, err
	}
	return s.o.Loop.RegisterBroker(ctx, r)
}

// Heartbeat is part of ControllerService.
func (s *Service) Heartbeat(ctx context.Context, r *controllerv1.HeartbeatRequest) (*controllerv1.HeartbeatResponse, error) {
	if err := checkHeartbeat(r); err != nil {
		return nil, err
	}
	if err := caller.CheckBroker(ctx, s.o.Callers, r.GetBrokerId()); err != nil {
		return nil, err
	}
	return s.o.Loop.Heartbeat(ctx, r)
}

// AlterPartition is part of ControllerService.
func (s *Service) AlterPartition(ctx context.Context, r *controllerv1.AlterPartitionRequest) (*controllerv1.AlterPartitionResponse, error) {
	if err := checkAlterPartition(r); err != nil {
		return nil, err
	}
	return s.o.Loop.AlterPartition(ctx, r)
}
