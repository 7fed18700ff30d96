package api

import (
	"context"
	"fmt"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

const (
	maxReassignments = 1_000
	defaultMoves     = 100
	maxMoves         = 1_000
)

// CreatePartitions is part of ControllerService.
func (s *Service) CreatePartitions(ctx context.Context, r *controllerv1.CreatePartitionsRequest) (*controllerv1.CreatePartitionsResponse, error) {
	if err := topicconfig.ValidateNewName(r.GetTopic()); err != nil { // the system's are not changed by request
		return nil, err
	}
	if n := r.GetPartitionCount(); n < 1 || n > topicconfig.MaxPartitions {
		return nil, &FieldError{"partition_count", fmt.Sprintf("must be 1 to %d, not %d", topicconfig.MaxPartitions, n)}
	}
	return s.o.Loop.CreatePartitions(ctx, r)
}

// ReassignPartitions is part of ControllerService.
func (s *Service) ReassignPartitions(ctx context.Context, r *controllerv1.ReassignPartitionsRequest) (*controllerv1.ReassignPartitionsResponse, error) {
	if err := checkReassignments(r.GetReassignments()); err != nil {
		return nil, err
	}
	return s.o.Loop.ReassignPartitions(ctx, r)
}

// CancelReassignments is part of ControllerService.
func (s *Service) CancelReassignments(ctx context.Context, r *controllerv1.CancelReassignmentsRequest) (*controllerv1.CancelReassignmentsResponse, error) {
	if err := checkReassignments(r.GetReassignments()); err != nil {
		return nil, err
	}
	return s.o.Loop.CancelReassignments(ctx, r)
}

func checkReassignments(rs []*controllerv1.Reassignment) error {
	if len(rs) > maxReassignments {
		return &FieldError{"reassignments", fmt.Sprintf("has more than %d", maxReassignments)}
	}
	type name struct {
		topic string
		n     uint32
	}
	seen := make(map[name]bool, len(rs))
	for i, r := range rs {
		field := fmt.Sprintf("reassignments[%d]", i)
		switch k := (name{r.GetTopic(), r.GetPartition()}); {
		case topicconfig.ValidateName(r.GetTopic()) != nil:
			return &FieldError{field + ".topic", "is not the name of a topic"}
		case r.GetPartition() > maxPartition:
			return &FieldError{field + ".partition", fmt.Sprintf("must be 0 to %d, not %d", maxPartition, r.GetPartition())}
		case len(r.GetReplicas()) > topicconfig.MaxReplicationFactor:
			return &FieldError{field + ".replicas", fmt.Sprintf("has more than %d", topicconfig.MaxReplicationFactor)}
		case seen[k]:
			return &FieldError{field, "is for the same partition as one before"}
		default:
			seen[k] = true
		}
	}
	return nil
}

// ListReassignments is part of ControllerService. Its pages are as those of
// ListOfflinePartitions.
func (s *Service) ListReassignments(ctx context.Context, r *controllerv1.ListReassignmentsRequest) (*controllerv1.ListReassignmentsResponse, error) {
	list, err := s.o.Loop.Reassignments(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(controllerv1.ListReassignmentsResponse)
	resp.Reassignments, resp.NextPageToken, err = page(list, r.GetPageSize(), r.GetPageToken())
	return resp, err
}

// SpreadReplicas is part of ControllerService.
func (s *Service) SpreadReplicas(ctx context.Context, r *controllerv1.SpreadReplicasRequest) (*controllerv1.SpreadReplicasResponse, error) {
	switch {
	case r.GetMostMoves() == 0:
		r.MostMoves = defaultMoves
	case r.GetMostMoves() > maxMoves:
		return nil, &FieldError{"most_moves", fmt.Sprintf("must be at most %d, not %d", maxMoves, r.GetMostMoves())}
	}
	return s.o.Loop.SpreadReplicas(ctx, r)
}

// ElectPreferredLeaders is part of ControllerService.
func (s *Service) ElectPreferredLeaders(ctx context.Context, r *controllerv1.ElectPreferredLeadersRequest) (*controllerv1.ElectPreferredLeadersResponse, error) {
	if r.GetTopic() != "" {
		if err := topicconfig.ValidateName(r.GetTopic()); err != nil {
			return nil, err
		}
	}
	return s.o.Loop.ElectPreferredLeaders(ctx, r)
}

// DrainBroker is part of ControllerService.
func (s *Service) DrainBroker(ctx context.Context, r *controllerv1.DrainBrokerRequest) (*controllerv1.DrainBrokerResponse, error) {
	if err := checkBroker(r.GetBrokerId()); err != nil {
		return nil, err
	}
	return s.o.Loop.DrainBroker(ctx, r)
}

// UndrainBroker is part of ControllerService.
func (s *Service) UndrainBroker(ctx context.Context, r *controllerv1.UndrainBrokerRequest) (*controllerv1.UndrainBrokerResponse, error) {
	if err := checkBroker(r.GetBrokerId()); err != nil {
		return nil, err
	}
	return s.o.Loop.UndrainBroker(ctx, r)
}

// RemoveBroker is part of ControllerService.
func (s *Service) RemoveBroker(ctx context.Context, r *controllerv1.RemoveBrokerRequest) (*controllerv1.RemoveBrokerResponse, error) {
	if err := checkBroker(r.GetBrokerId()); err != nil {
		return nil, err
	}
	return s.o.Loop.RemoveBroker(ctx, r)
}
