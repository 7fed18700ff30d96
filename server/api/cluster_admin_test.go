package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/servertest"
)

// createOn creates a topic on peers of a server.
func createOn(t *testing.T, s *servertest.Server, name string, partitions, replicas uint32) {
	t.Helper()
	_, err := s.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: name, PartitionCount: partitions, ReplicationFactor: replicas})
	if err != nil {
		t.Fatal(err)
	}
}

func brokerOf(t *testing.T, s *servertest.Server, id int32) *pb.Broker {
	t.Helper()
	list, err := s.Cluster.ListBrokers(t.Context(), &pb.ListBrokersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list.GetBrokers() {
		if b.GetBrokerId() == id {
			return b
		}
	}
	return nil
}

// ordersOf returns the partitions of the topic orders.
func ordersOf(t *testing.T, s *servertest.Server) []*pb.Partition {
	t.Helper()
	got, err := s.Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetPartitions()
}

func clusterOf(t *testing.T, s *servertest.Server) *pb.DescribeClusterResponse {
	t.Helper()
	got, err := s.Cluster.DescribeCluster(t.Context(), &pb.DescribeClusterRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func moving(t *testing.T, s *servertest.Server) []*pb.OngoingReassignment {
	t.Helper()
	got, err := s.Cluster.ListReassignments(t.Context(), &pb.ListReassignmentsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetReassignments()
}

func TestABrokerIsDrainedAndRemoved(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	peers := s.StartPeers(2, 3, 4, 5)
	createOn(t, s, "orders", 8, 3)
	ask := &pb.DrainBrokerRequest{BrokerId: 2, BytesPerSecond: 1000, ValidateOnly: true}
	would, err := s.Cluster.DrainBroker(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if b := brokerOf(t, s, 2); would.GetReplicaCount() != 6 || b.GetReplicaCount() != 6 || b.GetDraining() || len(moving(t, s)) != 0 {
		t.Errorf("only asked: %v; the broker is %v", would, b)
	}
	_, err = s.Cluster.RemoveBroker(t.Context(), &pb.RemoveBrokerRequest{BrokerId: 2})
	e := wantStatus(t, err, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_BROKER_IN_USE)
	if e.GetResource().GetName() != "2" || !strings.Contains(e.GetMessage(), "6 replicas") {
		t.Errorf("got %v", e)
	}

	ask.ValidateOnly = false
	if did, err := s.Cluster.DrainBroker(t.Context(), ask); err != nil || did.GetReplicaCount() != 6 {
		t.Fatal(did, err)
	}
	b, c := brokerOf(t, s, 2), clusterOf(t, s)
	if !b.GetDraining() || b.GetDrainBytesPerSecond() != 1000 || b.GetState() != pb.BrokerState_BROKER_STATE_ACTIVE {
		t.Errorf("the broker is %v", b)
	}
	if c.GetReassigningPartitionCount() != 6 || c.GetUnderReplicatedPartitionCount() != 0 {
		t.Errorf("the cluster is %v", c)
	}
	list := moving(t, s)
	if len(list) != 6 {
		t.Fatalf("moving are %v", list)
	}
	for _, m := range list {
		p := m.GetPlacement()
		if len(p.GetAddingReplicas()) != 1 || !slices.Equal(m.GetAwaitedBrokerIds(), p.GetAddingReplicas()) || slices.Contains(p.GetTargetReplicas(), 2) ||
			p.GetBytesPerSecond() != 1000 || len(p.GetReplicas()) != 4 || p.GetTopic() != "orders" {
			t.Errorf("moving is %v", m)
		}
	}
	s.CatchUp(peers)
	if b := brokerOf(t, s, 2); b.GetReplicaCount() != 0 || b.GetLeaderCount() != 0 || len(moving(t, s)) != 0 {
		t.Errorf("drained, the broker is %v; moving are %v", b, moving(t, s))
	}

	// Three brokers are left for three replicas.
	_, err = s.Cluster.DrainBroker(t.Context(), &pb.DrainBrokerRequest{BrokerId: 3, ValidateOnly: true})
	e = wantStatus(t, err, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_BROKERS)
	if e.GetResource().GetType() != "partition" || !strings.HasPrefix(e.GetResource().GetName(), "orders-") {
		t.Errorf("what is in the way is %v", e)
	}
	remove := &pb.RemoveBrokerRequest{BrokerId: 2, ValidateOnly: true}
	_, err = s.Cluster.RemoveBroker(t.Context(), remove)
	if e := wantStatus(t, err, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_BROKER_IN_USE); !strings.Contains(e.GetMessage(), "running") {
		t.Errorf("got %v", e)
	}
	peers[2].Fail()
	if _, err := s.Cluster.RemoveBroker(t.Context(), remove); err != nil || brokerOf(t, s, 2) == nil {
		t.Errorf("only asked: %v; the broker is %v", err, brokerOf(t, s, 2))
	}
	remove.ValidateOnly = false
	if _, err := s.Cluster.RemoveBroker(t.Context(), remove); err != nil || brokerOf(t, s, 2) != nil {
		t.Errorf("got %v; the broker is %v", err, brokerOf(t, s, 2))
	}
	_, err = s.Cluster.RemoveBroker(t.Context(), remove)
	if e := wantStatus(t, err, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_BROKER); e.GetResource().GetType() != "broker" {
		t.Errorf("got %v", e)
	}
}

func TestADrainIsEnded(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	if _, err := s.Cluster.DrainBroker(t.Context(), &pb.DrainBrokerRequest{BrokerId: 1}); err != nil || !brokerOf(t, s, 1).GetDraining() {
		t.Fatal(err)
	}
	_, err := s.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "t"})
	wantStatus(t, err, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_BROKERS)
	if _, err := s.Cluster.UndrainBroker(t.Context(), &pb.UndrainBrokerRequest{BrokerId: 1, ValidateOnly: true}); err != nil || !brokerOf(t, s, 1).GetDraining() {
		t.Errorf("only asked: %v", err)
	}
	if _, err := s.Cluster.UndrainBroker(t.Context(), &pb.UndrainBrokerRequest{BrokerId: 1}); err != nil || brokerOf(t, s, 1).GetDraining() {
		t.Errorf("got %v", err)
	}
	s.CreateTopic("t", 1)
}

func TestPartitionsAreMovedAndPutBack(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	peers := s.StartPeers(2, 3, 4, 5)
	createOn(t, s, "orders", 2, 3)
	was := ordersOf(t, s)[0]
	others := slices.DeleteFunc([]int32{2, 3, 4, 5}, func(id int32) bool { return slices.Contains(was.GetReplicas(), id) })
	target := []int32{was.GetReplicas()[1], others[0], was.GetReplicas()[0]}
	ask := &pb.ReassignPartitionsRequest{ValidateOnly: true, Reassignments: []*pb.Reassignment{
		{Topic: "orders", Replicas: target, ExpectedPartitionEpoch: new(was.GetPartitionEpoch())},
	}}
	move := func() *pb.ReassignmentResult {
		t.Helper()
		got, err := s.Cluster.ReassignPartitions(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		return got.GetResults()[0]
	}
	if r := move(); r.GetError() != nil || r.GetUnchanged() || !slices.Equal(r.GetPlacement().GetTargetReplicas(), target) || len(moving(t, s)) != 0 {
		t.Errorf("only asked: %v; moving are %v", r, moving(t, s))
	}
	ask.ValidateOnly = false
	if r := move(); r.GetError() != nil {
		t.Fatal(r)
	}
	p := ordersOf(t, s)[0]
	if !slices.Equal(p.GetTargetReplicas(), target) || !slices.Equal(p.GetAddingReplicas(), others) || p.GetMinInsyncReplicas() != 2 || p.GetPartitionEpoch() <= was.GetPartitionEpoch() {
		t.Errorf("on its way it is %v", p)
	}
	ask.Reassignments[0].ExpectedPartitionEpoch = nil
	if r := move(); !r.GetUnchanged() {
		t.Errorf("asked again: %v", r)
	}

	cancel := &pb.CancelReassignmentsRequest{ValidateOnly: true, Partitions: []*pb.PartitionReference{
		{Topic: "orders"}, {Topic: "orders", Partition: 1}, {Topic: "orders", Partition: 7},
	}}
	undo := func() []*pb.ReassignmentResult {
		t.Helper()
		got, err := s.Cluster.CancelReassignments(t.Context(), cancel)
		if err != nil {
			t.Fatal(err)
		}
		return got.GetResults()
	}
	results := undo()
	if !slices.Equal(results[0].GetPlacement().GetReplicas(), was.GetReplicas()) || !results[1].GetUnchanged() || len(moving(t, s)) != 1 {
		t.Errorf("only asked: %v", results)
	}
	wantError(t, results[2].GetError(), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
	cancel.ValidateOnly = false
	undo()
	if p := ordersOf(t, s)[0]; !slices.Equal(p.GetReplicas(), was.GetReplicas()) || len(p.GetTargetReplicas()) != 0 {
		t.Errorf("put back it is %v", p)
	}

	move()
	s.CatchUp(peers)
	if p := ordersOf(t, s)[0]; !slices.Equal(p.GetReplicas(), target) || len(p.GetTargetReplicas()) != 0 || len(p.GetInSyncReplicas()) != 3 {
		t.Errorf("moved it is %v", p)
	}
}

// Each partition is refused for itself, with its reason.
func TestMovesThatCannotBeSayWhy(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	peers := s.StartPeers(2, 3, 4, 5, 6)
	peers[6].Fail()
	createOn(t, s, "orders", 4, 3)
	parts := ordersOf(t, s)
	other := func(n int) []int32 {
		r := slices.Clone(parts[n].GetReplicas())
		for id := int32(2); ; id++ {
			if !slices.Contains(r, id) {
				r[2] = id
				return r
			}
		}
	}
	got, err := s.Cluster.ReassignPartitions(t.Context(), &pb.ReassignPartitionsRequest{Reassignments: []*pb.Reassignment{{Topic: "orders", Replicas: other(0)}}})
	if err != nil || got.GetResults()[0].GetError() != nil {
		t.Fatal(got, err)
	}
	got, err = s.Cluster.ReassignPartitions(t.Context(), &pb.ReassignPartitionsRequest{Reassignments: []*pb.Reassignment{
		{Topic: "orders", Partition: 0, Replicas: parts[0].GetReplicas()},
		{Topic: "orders", Partition: 1, Replicas: []int32{2, 3, 6}},
		{Topic: "orders", Partition: 2, Replicas: []int32{2, 3, 77}},
		{Topic: "orders", Partition: 3, Replicas: []int32{2, 3}},
		{Topic: "orders", Partition: 9, Replicas: []int32{2, 3, 4}},
		{Topic: "others", Partition: 0, Replicas: []int32{2, 3, 4}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		code   codes.Code
		reason pb.ErrorReason
		names  string
	}{
		{codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_REASSIGNMENT_IN_PROGRESS, "orders-0"},
		{codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_BROKER_NOT_SERVING, "6"},
		{codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_BROKER, "77"},
		{codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "reassignments[3].replicas"},
		{codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, "orders-9"},
		{codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, "others-0"},
	} {
		r := got.GetResults()[i]
		wantError(t, r.GetError(), want.code, want.reason)
		if name := r.GetError().GetResource().GetName() + r.GetError().GetField().GetField(); name != want.names {
			t.Errorf("%v names %q, want %q", r, name, want.names)
		}
	}
	stale, err := s.Cluster.ReassignPartitions(t.Context(), &pb.ReassignPartitionsRequest{Reassignments: []*pb.Reassignment{
		{Topic: "orders", Partition: 1, Replicas: other(1), ExpectedPartitionEpoch: new(int32(99))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, stale.GetResults()[0].GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_CONFLICT)
	if n := len(moving(t, s)); n != 1 {
		t.Errorf("%d are moving", n)
	}
}

func TestReplicasAreRebalancedAndPagesListThem(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	peers := s.StartPeers(2, 3, 4)
	createOn(t, s, "orders", 8, 3)
	peers[5] = s.StartPeer(5)
	ask := &pb.RebalanceReplicasRequest{ValidateOnly: true}
	would, err := s.Cluster.RebalanceReplicas(t.Context(), ask)
	if err != nil || len(would.GetResults()) != 6 || len(moving(t, s)) != 0 {
		t.Fatalf("only asked: %v, %v", would, err)
	}
	ask.ValidateOnly, ask.MaxMoves, ask.BytesPerSecond = false, 5, 77
	did, err := s.Cluster.RebalanceReplicas(t.Context(), ask)
	if err != nil || len(did.GetResults()) != 5 {
		t.Fatal(did, err)
	}
	for _, r := range did.GetResults() {
		if p := r.GetPlacement(); !slices.Equal(p.GetAddingReplicas(), []int32{5}) || p.GetBytesPerSecond() != 77 || r.GetError() != nil {
			t.Errorf("moved is %v", r)
		}
	}
	page := &pb.ListReassignmentsRequest{PageSize: 2}
	var sizes, numbers []int
	for {
		got, err := s.Cluster.ListReassignments(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(got.GetReassignments()))
		for _, m := range got.GetReassignments() {
			numbers = append(numbers, int(m.GetPlacement().GetPartition()))
		}
		if page.PageToken = got.GetNextPageToken(); page.PageToken == "" {
			break
		}
	}
	if fmt.Sprint(sizes) != "[2 2 1]" || !slices.IsSorted(numbers) || len(slices.Compact(numbers)) != 5 {
		t.Errorf("pages of %v with %v", sizes, numbers)
	}
	s.CatchUp(peers)
	if b := brokerOf(t, s, 5); b.GetReplicaCount() != 5 {
		t.Errorf("the new broker is %v", b)
	}
}

func TestHealthIsCountedAndLeadersGoBack(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	peers := s.StartPeers(2, 3, 4)
	createOn(t, s, "orders", 3, 3)
	createOn(t, s, "single", 3, 1)
	if c := clusterOf(t, s); c.GetOfflinePartitionCount()+c.GetUnderReplicatedPartitionCount()+c.GetUnderMinInsyncPartitionCount()+c.GetReassigningPartitionCount() != 0 {
		t.Errorf("all is well: %v", c)
	}
	peers[3].Fail()
	c, b := clusterOf(t, s), brokerOf(t, s, 3)
	if c.GetOfflinePartitionCount() != 1 || c.GetUnderReplicatedPartitionCount() != 3 || c.GetUnderMinInsyncPartitionCount() != 0 {
		t.Errorf("with one broker gone: %v", c)
	}
	if b.GetState() != pb.BrokerState_BROKER_STATE_FENCED || b.GetOutOfSyncReplicaCount() != 3 || b.GetReplicaCount() != 4 || b.GetLeaderCount() != 0 {
		t.Errorf("the broker is %v", b)
	}
	peers[2].Fail()
	c = clusterOf(t, s)
	if c.GetOfflinePartitionCount() != 2 || c.GetUnderReplicatedPartitionCount() != 3 || c.GetUnderMinInsyncPartitionCount() != 3 {
		t.Errorf("with two brokers gone: %v", c)
	}
	for _, p := range ordersOf(t, s) {
		if p.GetLeader().GetBrokerId() != 4 || fmt.Sprint(p.GetInSyncReplicas()) != "[4]" || len(p.GetEligibleLeaderReplicas()) != 1 {
			t.Errorf("orders is %v", p)
		}
	}
	peers[2].Return()
	s.CatchUp(peers)
	ask := &pb.ElectPreferredLeadersRequest{Topic: "orders", ValidateOnly: true}
	would, err := s.Cluster.ElectPreferredLeaders(t.Context(), ask)
	if err != nil || would.GetElectedCount() != 1 || would.GetNotPossibleCount() != 1 || brokerOf(t, s, 2).GetLeaderCount() != 0 {
		t.Fatalf("only asked: %v, %v", would, err)
	}
	ask.ValidateOnly = false
	if did, err := s.Cluster.ElectPreferredLeaders(t.Context(), ask); err != nil || did.GetElectedCount() != 1 || brokerOf(t, s, 2).GetLeaderCount() != 1 {
		t.Errorf("got %v, %v", did, err)
	}
	ask.Topic = "others"
	_, err = s.Cluster.ElectPreferredLeaders(t.Context(), ask)
	wantStatus(t, err, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
}

func TestAPartitionIsRecoveredWithLoss(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	peers := s.StartPeers(2)
	createOn(t, s, "orders", 2, 1)
	ask := &pb.RecoverPartitionRequest{Topic: "orders", Partition: 1, ValidateOnly: true}
	_, err := s.Cluster.RecoverPartition(t.Context(), ask)
	e := wantStatus(t, err, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_PARTITION_NOT_OFFLINE)
	if e.GetLeader().GetBrokerId() != 2 || e.GetLeader().GetLeaderEpoch() == 0 {
		t.Errorf("got %v", e)
	}
	offline := func() []*pb.OfflinePartition {
		t.Helper()
		got, err := s.Cluster.ListOfflinePartitions(t.Context(), &pb.ListOfflinePartitionsRequest{PageSize: 5000})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetPartitions()
	}
	if list := offline(); len(list) != 0 {
		t.Errorf("offline are %v", list)
	}
	peers[2].Fail()
	list := offline()
	if len(list) != 2 || list[1].GetTopic() != "orders" || list[1].GetPartition() != 1 || len(list[1].GetTopicId()) != 16 || fmt.Sprint(list[1].GetAwaitedBrokerIds()) != "[2]" {
		t.Fatalf("offline are %v", list)
	}
	_, err = s.Cluster.RecoverPartition(t.Context(), ask)
	e = wantStatus(t, err, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NO_REPLICA_SERVES)
	if e.GetResource().GetName() != "orders-1" {
		t.Errorf("got %v", e)
	}
	peers[2].Return() // with nothing
	would, err := s.Cluster.RecoverPartition(t.Context(), ask)
	if err != nil || would.GetPlacement().GetLeaderId() != 2 || would.GetPlacement().GetPartition() != 1 || len(offline()) != 2 {
		t.Fatalf("only asked: %v, %v", would, err)
	}
	ask.ValidateOnly = false
	_, err = s.Cluster.RecoverPartition(t.Context(), ask)
	if e := wantStatus(t, err, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD); e.GetField().GetField() != "accept_loss" {
		t.Errorf("got %v", e)
	}
	ask.AcceptLoss = true
	did, err := s.Cluster.RecoverPartition(t.Context(), ask)
	if err != nil || did.GetPlacement().GetLeaderId() != 2 || did.GetRevision() == 0 {
		t.Fatalf("got %v, %v", did, err)
	}
	if p := ordersOf(t, s); p[1].GetLeader().GetBrokerId() != 2 || p[0].GetLeader().GetBrokerId() != -1 || len(offline()) != 1 {
		t.Errorf("recovered are %v", p)
	}
}

func TestATopicGetsMorePartitions(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("orders", 2)
	ask := &pb.CreatePartitionsRequest{Topic: "orders", PartitionCount: 5, ValidateOnly: true}
	would, err := s.Topic.CreatePartitions(t.Context(), ask)
	if err != nil || would.GetTopic().GetPartitionCount() != 5 || len(ordersOf(t, s)) != 2 {
		t.Fatalf("only asked: %v, %v", would, err)
	}
	ask.ValidateOnly = false
	for range 2 { // it may be repeated
		did, err := s.Topic.CreatePartitions(t.Context(), ask)
		if err != nil || did.GetTopic().GetPartitionCount() != 5 || did.GetTopic().GetConfig()["segment.bytes"] == "" {
			t.Fatalf("got %v, %v", did, err)
		}
	}
	if at := fill(t, s.Broker, "orders", 4, "first"); at != 0 { // it can be used at once
		t.Errorf("the first record is at %d", at)
	}
	ask.PartitionCount = 4
	_, err = s.Topic.CreatePartitions(t.Context(), ask)
	if e := wantStatus(t, err, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD); e.GetField().GetField() != "partition_count" {
		t.Errorf("got %v", e)
	}
	ask.Topic = "others"
	_, err = s.Topic.CreatePartitions(t.Context(), ask)
	wantStatus(t, err, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
}

func TestAdministrationRefusesBadInput(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	moves := func(n int, change func(i int, m *pb.Reassignment)) func(context.Context) error {
		r := &pb.ReassignPartitionsRequest{}
		for i := range n {
			m := &pb.Reassignment{Topic: "t", Partition: uint32(i), Replicas: []int32{1}}
			change(i, m)
			r.Reassignments = append(r.Reassignments, m)
		}
		return func(ctx context.Context) error {
			_, err := s.Cluster.ReassignPartitions(ctx, r)
			return err
		}
	}
	cancel := func(refs ...*pb.PartitionReference) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := s.Cluster.CancelReassignments(ctx, &pb.CancelReassignmentsRequest{Partitions: refs})
			return err
		}
	}
	recovers := func(r *pb.RecoverPartitionRequest) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := s.Cluster.RecoverPartition(ctx, r)
			return err
		}
	}
	grow := func(topic string, n uint32) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := s.Topic.CreatePartitions(ctx, &pb.CreatePartitionsRequest{Topic: topic, PartitionCount: n})
			return err
		}
	}
	none := func(int, *pb.Reassignment) {}
	wide := make([]int32, 16)
	for i := range wide {
		wide[i] = int32(i)
	}
	before := clusterOf(t, s).GetRevision()
	for name, c := range map[string]struct {
		call  func(context.Context) error
		names string
	}{
		"drain of -1": {func(ctx context.Context) error {
			_, err := s.Cluster.DrainBroker(ctx, &pb.DrainBrokerRequest{BrokerId: -1})
			return err
		}, "broker_id"},
		"drain beyond": {func(ctx context.Context) error {
			_, err := s.Cluster.DrainBroker(ctx, &pb.DrainBrokerRequest{BrokerId: 1 << 20})
			return err
		}, "broker_id"},
		"undrain of -1": {func(ctx context.Context) error {
			_, err := s.Cluster.UndrainBroker(ctx, &pb.UndrainBrokerRequest{BrokerId: -1})
			return err
		}, "broker_id"},
		"remove of -1": {func(ctx context.Context) error {
			_, err := s.Cluster.RemoveBroker(ctx, &pb.RemoveBrokerRequest{BrokerId: -1})
			return err
		}, "broker_id"},
		"too many moves at a time": {func(ctx context.Context) error {
			_, err := s.Cluster.RebalanceReplicas(ctx, &pb.RebalanceReplicasRequest{MaxMoves: 1001})
			return err
		}, "max_moves"},
		"elect for a bad name": {func(ctx context.Context) error {
			_, err := s.Cluster.ElectPreferredLeaders(ctx, &pb.ElectPreferredLeadersRequest{Topic: "a/b"})
			return err
		}, "topic"},
		"page token of moves": {func(ctx context.Context) error {
			_, err := s.Cluster.ListReassignments(ctx, &pb.ListReassignmentsRequest{PageToken: "x"})
			return err
		}, "page_token"},
		"page token of offline": {func(ctx context.Context) error {
			_, err := s.Cluster.ListOfflinePartitions(ctx, &pb.ListOfflinePartitionsRequest{PageToken: "-1"})
			return err
		}, "page_token"},
		"no moves":                {moves(0, none), "reassignments"},
		"too many moves":          {moves(1001, none), "reassignments"},
		"move of a bad name":      {moves(1, func(_ int, m *pb.Reassignment) { m.Topic = "" }), "reassignments[0].topic"},
		"move of an absurd one":   {moves(1, func(_ int, m *pb.Reassignment) { m.Partition = 10_000 }), "reassignments[0].partition"},
		"move twice":              {moves(2, func(_ int, m *pb.Reassignment) { m.Partition = 0 }), "reassignments[1]"},
		"move to nobody":          {moves(1, func(_ int, m *pb.Reassignment) { m.Replicas = nil }), "reassignments[0].replicas"},
		"move to too many":        {moves(1, func(_ int, m *pb.Reassignment) { m.Replicas = wide }), "reassignments[0].replicas"},
		"move to one twice":       {moves(1, func(_ int, m *pb.Reassignment) { m.Replicas = []int32{1, 1} }), "reassignments[0].replicas"},
		"move to broker -1":       {moves(2, func(i int, m *pb.Reassignment) { m.Replicas = []int32{int32(-i)} }), "reassignments[1].replicas"},
		"move of a bad epoch":     {moves(1, func(_ int, m *pb.Reassignment) { m.ExpectedPartitionEpoch = new(int32(-1)) }), "reassignments[0].expected_partition_epoch"},
		"cancel of nothing":       {cancel(), "partitions"},
		"cancel of a bad name":    {cancel(&pb.PartitionReference{Topic: "."}), "partitions[0].topic"},
		"cancel of an absurd one": {cancel(&pb.PartitionReference{Topic: "t", Partition: 1 << 31}), "partitions[0].partition"},
		"cancel twice":            {cancel(&pb.PartitionReference{Topic: "t"}, &pb.PartitionReference{Topic: "t"}), "partitions[1]"},
		"recover a bad name":      {recovers(&pb.RecoverPartitionRequest{Topic: "", AcceptLoss: true}), "topic"},
		"recover an absurd one":   {recovers(&pb.RecoverPartitionRequest{Topic: "t", Partition: 10_000, AcceptLoss: true}), "partition"},
		"recover by accident":     {recovers(&pb.RecoverPartitionRequest{Topic: "t"}), "accept_loss"},
		"grow a bad name":         {grow("a b", 2), "topic"},
		"grow the system's":       {grow("__x", 2), "topic"},
		"grow to none":            {grow("t", 0), "partition_count"},
		"grow too far":            {grow("t", 10_001), "partition_count"},
	} {
		t.Run(name, func(t *testing.T) {
			reason := pb.ErrorReason_ERROR_REASON_INVALID_FIELD
			if name == "too many moves" {
				reason = pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED
			}
			e := wantStatus(t, c.call(t.Context()), codes.InvalidArgument, reason)
			if got := e.GetField().GetField() + e.GetLimit().GetLimit(); got != c.names {
				t.Errorf("names %q, want %q: %v", got, c.names, e)
			}
		})
	}
	if after := clusterOf(t, s).GetRevision(); after != before {
		t.Errorf("something was changed: revision %d, before %d", after, before)
	}
	for name, call := range map[string]func(context.Context) error{
		"drain": func(ctx context.Context) error {
			_, err := s.Cluster.DrainBroker(ctx, &pb.DrainBrokerRequest{BrokerId: 9})
			return err
		},
		"undrain": func(ctx context.Context) error {
			_, err := s.Cluster.UndrainBroker(ctx, &pb.UndrainBrokerRequest{BrokerId: 9})
			return err
		},
	} {
		t.Run(name+" of an unknown broker", func(t *testing.T) {
			wantStatus(t, call(t.Context()), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_BROKER)
		})
	}
}
