package api

import (
	"context"
	"fmt"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// maxMoves is how many moves one RebalanceReplicas begins at most.
const maxMoves = 1_000

// RebalanceReplicas begins to move replicas to brokers that hold few.
func (s *ClusterService) RebalanceReplicas(ctx context.Context, r *pb.RebalanceReplicasRequest) (*pb.RebalanceReplicasResponse, error) {
	if n := r.GetMaxMoves(); n > maxMoves {
		return nil, fieldFault("max_moves", fmt.Sprintf("is %d, more than %d", n, maxMoves))
	}
	done, err := s.controller.SpreadReplicas(ctx, &controllerv1.SpreadReplicasRequest{
		MostMoves: r.GetMaxMoves(), BytesPerSecond: r.GetBytesPerSecond(), ValidateOnly: r.GetValidateOnly(),
	})
	if err := s.seen(ctx, done.GetRevision(), err); err != nil {
		return nil, err
	}
	return &pb.RebalanceReplicasResponse{Results: resultsOf(done.GetResults()), Revision: done.GetRevision()}, nil
}
