package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// RecoverPartition has a partition that nobody leads led by whoever serves and
// has the most.
func (s *ClusterService) RecoverPartition(ctx context.Context, r *pb.RecoverPartitionRequest) (*pb.RecoverPartitionResponse, error) {
	if err := topicconfig.ValidateName(r.GetTopic()); err != nil {
		return nil, err
	}
	if err := checkPartition("partition", r.GetPartition()); err != nil {
		return nil, err
	}
	if !r.GetAcceptLoss() && !r.GetValidateOnly() {
		return nil, fieldFault("accept_loss", "is not set: the partition may lose records by it")
	}
	done, err := s.controller.RecoverPartition(ctx, &controllerv1.RecoverPartitionRequest{
		Topic: r.GetTopic(), Partition: r.GetPartition(), AcceptLoss: !r.GetValidateOnly(),
		OnlyIfLost: r.GetOnlyIfLost(), LostBrokerIds: r.GetLostBrokerIds(),
	})
	if err := s.seen(ctx, done.GetRevision(), err); err != nil {
		return nil, err
	}
	out := &pb.RecoverPartitionResponse{
		Placement: placementOf(r.GetTopic(), done.GetRecord()), AwaitedBrokerIds: done.GetAwaitedBrokerIds(), Revision: done.GetRevision(),
	}
	for _, e := range done.GetEnds() {
		out.Ends = append(out.Ends, &pb.ReplicaEnd{BrokerId: e.GetBrokerId(), LastLeaderEpoch: e.GetLastLeaderEpoch(), End: e.GetEnd()})
	}
	return out, nil
}
