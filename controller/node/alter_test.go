package node_test

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
)

// The whole way: over gRPC into the store, and out to whoever watches.
func TestAChangeOfTheISRIsStoredAndTold(t *testing.T) {
	ctx := bounded(t)
	c := controllertest.Start(t)
	bs := map[int32]*controllertest.Broker{}
	for id := int32(1); id <= 3; id++ {
		bs[id] = controllertest.StartBroker(t, c.Client, id)
	}
	topic, err := c.Client.CreateTopic(ctx, &controllerv1.CreateTopicRequest{Topic: "orders", PartitionCount: 1, ReplicationFactor: 3})
	if err != nil {
		t.Fatal(err)
	}
	v := watch(ctx, t, c, nil)
	v.until(t, topic.GetRevision())
	p := v.partitions[string(topic.GetTopic().GetTopicId())][0]
	leader := bs[p.GetLeader()]
	ask := &controllerv1.AlterPartitionRequest{BrokerId: leader.ID, BrokerEpoch: leader.Epoch, Proposals: []*controllerv1.InSyncProposal{{
		TopicId: p.GetTopicId(), LeaderEpoch: p.GetLeaderEpoch(), PartitionEpoch: p.GetPartitionEpoch(),
		InSyncReplicas: []*controllerv1.InSyncReplica{{BrokerId: leader.ID, BrokerEpoch: leader.Epoch}},
	}}}
	resp, err := c.Client.AlterPartition(ctx, ask)
	if err != nil || resp.GetResults()[0].GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED {
		t.Fatal(resp, err)
	}
	v.until(t, resp.GetRevision())
	if p := v.partitions[string(topic.GetTopic().GetTopicId())][0]; !slices.Equal(p.GetInSyncReplicas(), []int32{leader.ID}) || p.GetPartitionEpoch() != 2 {
		t.Errorf("a watch tells of %v", p)
	}
	ask.Proposals = append(ask.Proposals, ask.Proposals[0])
	if _, err := c.Client.AlterPartition(ctx, ask); status.Code(err) != codes.InvalidArgument {
		t.Errorf("twice the same partition: %v", err)
	}
}
