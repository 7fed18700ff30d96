package api

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// movingLeader is broker 1 of a cluster whose topic "t" has one partition, which
// is led by others, played by the test.
type movingLeader struct {
	noBroker

	t        *testing.T
	mirror   *metadata.Mirror
	revision int64
	leaders  map[int32]*playedLeader
	own      *partition.Partition // when broker 1 leads
	found    chan struct{}        // takes a note when it is asked for
	client   pb.BrokerServiceClient
	service  *BrokerService
}

// playedLeader is a broker whose Fetch streams a test answers.
type playedLeader struct {
	pb.UnimplementedBrokerServiceServer
	pb.UnimplementedTopicServiceServer

	logEnd  atomic.Int64 // as ListOffsets says
	conn    *grpc.ClientConn
	streams chan *playedStream
	reads   chan *playedRead
}

type playedStream struct {
	grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]

	asked   chan *pb.FetchSubscription
	dropped chan uint64
	end     chan error
}

func (l *playedLeader) Fetch(st grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
	s := &playedStream{BidiStreamingServer: st, asked: make(chan *pb.FetchSubscription, 10), dropped: make(chan uint64, 10), end: make(chan error)}
	l.streams <- s
	go func() {
		for {
			m, err := st.Recv()
			if err != nil {
				return
			}
			for _, id := range m.GetUnsubscribe() {
				s.dropped <- id
			}
			for _, sub := range m.GetSubscribe() {
				s.asked <- sub
			}
		}
	}()
	select {
	case err := <-s.end:
		return err
	case <-st.Context().Done():
		return nil
	}
}

// answer sends a frame of values from an offset on.
func (s *playedStream) answer(t *testing.T, sub *pb.FetchSubscription, first bool, from int64, epoch int32, values ...string) {
	t.Helper()
	m := &pb.FetchResponse{SubscriptionId: sub.GetSubscriptionId(), Partition: sub.GetPartition(), FirstOffset: from, NextOffset: from + int64(len(values))}
	if first {
		m.Topic = "t"
	}
	for i, v := range values {
		m.Records = append(m.Records, &pb.FetchedRecord{Offset: from + int64(i), LeaderEpoch: epoch, Value: []byte(v)})
	}
	m.CreditUsed = uint32(proto.Size(m))
	if err := s.Send(m); err != nil {
		t.Fatal(err)
	}
}

func (m *movingLeader) Conn(id int32) (*grpc.ClientConn, error) {
	if l := m.leaders[id]; l != nil {
		return l.conn, nil
	}
	return nil, fmt.Errorf("there is no broker %d", id)
}

func (m *movingLeader) PartitionOf(t *metadata.Topic, id uint32) (*partition.Partition, error) {
	p := m.mirror.Current().TopicByID(t.ID).Partition(id)
	if p.Leader == 1 {
		select {
		case m.found <- struct{}{}:
		default:
		}
		return m.own, nil
	}
	return nil, &broker.NotLeaderError{
		Topic: t.Name, Partition: id, Leader: p.Leader, Epoch: record.LeaderEpoch(p.LeaderEpoch), Revision: m.mirror.Current().Revision,
	}
}

// lead makes a broker the leader of the partition.
func (m *movingLeader) lead(id, epoch int32) {
	m.t.Helper()
	m.revision++
	topic := make([]byte, 16)
	changes := []*controllerv1.MetadataChange{
		{Change: &controllerv1.MetadataChange_Topic{Topic: &controllerv1.TopicRecord{TopicId: topic, Topic: "t", PartitionCount: 1, ReplicationFactor: 1}}},
		{Change: &controllerv1.MetadataChange_Partition{Partition: &controllerv1.PartitionRecord{TopicId: topic, Leader: id, LeaderEpoch: epoch, PartitionEpoch: epoch, Replicas: []int32{id}, DirectoryIds: [][]byte{topic}}}},
	}
	if err := m.mirror.Apply(&controllerv1.WatchMetadataResponse{
		SnapshotBegin: true, SnapshotEnd: true, Revision: m.revision, ClusterGeneration: 1, Changes: changes,
	}); err != nil {
		m.t.Fatal(err)
	}
}

// startMovingLeader starts broker 1 and plays brokers 2 and 3.
func startMovingLeader(t *testing.T) *movingLeader {
	t.Helper()
	return startMovingLeaderWith(t, Limits{})
}

func startMovingLeaderWith(t *testing.T, limits Limits) *movingLeader {
	t.Helper()
	limits = limits.withDefaults()
	m := &movingLeader{
		noBroker: noBroker{broker.NewBudget(64 << 20)}, t: t, mirror: metadata.New(metadata.Options{}), leaders: make(map[int32]*playedLeader),
	}
	for id := int32(2); id <= 3; id++ {
		l := &playedLeader{streams: make(chan *playedStream, 10), reads: make(chan *playedRead, 10)}
		l.conn = serveFor(t, func(r grpc.ServiceRegistrar) {
			pb.RegisterBrokerServiceServer(r, l)
			pb.RegisterTopicServiceServer(r, l)
		})
		m.leaders[id] = l
	}
	s, err := newBrokerService(Options{
		Broker: m, Metadata: m.mirror, calls: forward.NewCalls(m, limits.ForwardedCalls), Limits: limits, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.service = s
	t.Cleanup(s.Wait)
	m.client = pb.NewBrokerServiceClient(serveFor(t, func(r grpc.ServiceRegistrar) { pb.RegisterBrokerServiceServer(r, s) }))
	return m
}

// serveFor serves services until the test ends, and returns a connection.
func serveFor(t *testing.T, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	server, err := rpc.NewServer(rpc.Options{Name: "test", Logger: slog.New(slog.DiscardHandler), FaultOf: FaultOf})
	if err != nil {
		t.Fatal(err)
	}
	register(server)
	lis := rpc.ListenInProcess()
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	conn, err := lis.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func subscribeTo(t *testing.T, m *movingLeader, sub *pb.FetchSubscription) grpc.BidiStreamingClient[pb.FetchRequest, pb.FetchResponse] {
	t.Helper()
	st, err := m.client.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{sub}}); err != nil {
		t.Fatal(err)
	}
	return st
}

func wantValue(t *testing.T, st grpc.BidiStreamingClient[pb.FetchRequest, pb.FetchResponse], offset int64, value string) {
	t.Helper()
	m, err := st.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.GetRecords()) != 1 || m.GetRecords()[0].GetOffset() != offset || string(m.GetRecords()[0].GetValue()) != value {
		t.Fatalf("got %v, want %q at %d", m, value, offset)
	}
}

// The client has one stream; behind it the leader dies, then another one hands
// the partition on.
func TestASubscriptionFollowsItsLeader(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := subscribeTo(t, m, &pb.FetchSubscription{
		SubscriptionId: 8, Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS, Position: &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 5}, LeaderEpoch: new(int32(3))},
	})
	two := <-m.leaders[2].streams
	sub := <-two.asked
	if sub.GetPosition().GetOffset() != 5 || sub.GetPosition().GetLeaderEpoch() != 3 || sub.GetSubscriptionId() != 8 || sub.GetMinRevision() != 1 {
		t.Errorf("the first leader was asked for %v", sub)
	}
	two.answer(t, sub, true, 5, 4, "a")
	wantValue(t, st, 5, "a")

	two.end <- fmt.Errorf("killed")
	m.lead(3, 5)
	three := <-m.leaders[3].streams
	sub = <-three.asked
	if sub.GetPosition().GetOffset() != 6 || sub.GetPosition().GetLeaderEpoch() != 4 {
		t.Errorf("the second leader was asked for %v", sub)
	}
	three.answer(t, sub, true, 6, 5, "b")
	wantValue(t, st, 6, "b")

	if err := three.Send(&pb.FetchResponse{SubscriptionId: 8, Control: &pb.FetchResponse_Error{Error: &pb.RequestError{
		Code: uint32(codes.FailedPrecondition), Reason: pb.ErrorReason_ERROR_REASON_NOT_LEADER, Retryable: true,
	}}}); err != nil {
		t.Fatal(err)
	}
	m.lead(2, 6)
	two = <-m.leaders[2].streams
	sub = <-two.asked
	if sub.GetPosition().GetOffset() != 7 || sub.GetPosition().GetLeaderEpoch() != 5 {
		t.Errorf("the third leader was asked for %v", sub)
	}
	two.answer(t, sub, true, 7, 6, "c")
	wantValue(t, st, 7, "c")
}

func TestASubscriptionOfAnotherHistoryEndsDiverged(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := subscribeTo(t, m, &pb.FetchSubscription{SubscriptionId: 1, Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS})
	two := <-m.leaders[2].streams
	sub := <-two.asked
	if err := two.Send(&pb.FetchResponse{SubscriptionId: 1, Control: &pb.FetchResponse_Error{Error: &pb.RequestError{
		Code: uint32(codes.Aborted), Reason: pb.ErrorReason_ERROR_REASON_DIVERGED, Detail: &pb.RequestError_Divergence{Divergence: &pb.Divergence{SafeOffset: 3}},
	}}}); err != nil {
		t.Fatal(err)
	}
	got, err := st.Recv()
	if err != nil || got.GetError().GetDivergence().GetSafeOffset() != 3 || got.GetSubscriptionId() != sub.GetSubscriptionId() {
		t.Fatal(got, err)
	}
}

// What a leader cannot serve for want of storage another one can, or nobody.
func TestASubscriptionLeavesALeaderWhoseStorageFailed(t *testing.T) {
	for _, others := range []bool{true, false} {
		m := startMovingLeader(t)
		m.lead(2, 4)
		st := subscribeTo(t, m, &pb.FetchSubscription{SubscriptionId: 1, Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS})
		two := <-m.leaders[2].streams
		two.answer(t, <-two.asked, true, 0, 4, "a")
		wantValue(t, st, 0, "a")
		if err := two.Send(&pb.FetchResponse{SubscriptionId: 1, Control: &pb.FetchResponse_Error{Error: &pb.RequestError{
			Code: uint32(codes.Unavailable), Reason: pb.ErrorReason_ERROR_REASON_STORAGE_FAILED, Retryable: others,
		}}}); err != nil {
			t.Fatal(err)
		}
		m.lead(3, 5)
		if !others {
			got, err := st.Recv()
			if err != nil || got.GetError().GetReason() != pb.ErrorReason_ERROR_REASON_STORAGE_FAILED {
				t.Errorf("got %v, %v", got, err)
			}
			continue
		}
		three := <-m.leaders[3].streams
		sub := <-three.asked
		if sub.GetPosition().GetOffset() != 1 || sub.GetPosition().GetLeaderEpoch() != 4 {
			t.Errorf("the next leader was asked for %v", sub)
		}
		three.answer(t, sub, true, 1, 5, "b")
		wantValue(t, st, 1, "b")
	}
}

// A frame of the subscription of that id before this one may still come.
func TestFramesOfAnUnsubscribedPartitionAreNotTakenForANewOne(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := subscribeTo(t, m, &pb.FetchSubscription{SubscriptionId: 1, Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS})
	two := <-m.leaders[2].streams
	old := <-two.asked
	two.answer(t, old, true, 0, 4, "a")
	wantValue(t, st, 0, "a")
	if err := st.Send(&pb.FetchRequest{Unsubscribe: []uint64{1}, Subscribe: []*pb.FetchSubscription{
		{SubscriptionId: 1, Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS},
	}}); err != nil {
		t.Fatal(err)
	}
	if id := <-two.dropped; id != 1 {
		t.Errorf("subscription %d was unsubscribed", id)
	}
	sub := <-two.asked
	two.answer(t, old, false, 1, 4, "stale")
	two.answer(t, sub, true, 0, 4, "b")
	wantValue(t, st, 0, "b")
}

// ownPartition makes a partition that broker 1 leads.
func ownPartition(t *testing.T) *partition.Partition {
	t.Helper()
	log, _, err := commitlog.Open(commitlog.Options{FS: memfs.New(), Dir: "/p"})
	if err != nil {
		t.Fatal(err)
	}
	log.SetConfig(commitlog.Config{SegmentBytes: 64 << 20, RetentionBytes: 1 << 30})
	p := partition.New(partition.Options{
		Log: log, Self: 1, Flusher: eager{}, Settings: partition.Settings{MaxAheadMs: 1000}, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func leadOwn(p *partition.Partition, epoch record.LeaderEpoch) {
	p.Lead(replica.Assignment{Epoch: epoch, Replicas: []replica.ID{1}, InSync: []replica.ID{1}, MinInSync: 1, Durability: replica.Memory})
}

func (m *movingLeader) append(value string) {
	m.t.Helper()
	if _, err := m.client.Append(m.t.Context(), &pb.AppendRequest{
		Topic: "t", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: value}}},
	}); err != nil {
		m.t.Fatal(err)
	}
}

// The broker that the client is at hands its partition over, and gets it back.
func TestASubscriptionLeavesThisBrokerAndComesBack(t *testing.T) {
	own := ownPartition(t)
	m := startMovingLeader(t)
	m.own = own
	leadOwn(own, 1)
	m.lead(1, 1)
	m.append("a")
	st := subscribeTo(t, m, &pb.FetchSubscription{SubscriptionId: 1, Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS})
	wantValue(t, st, 0, "a")

	m.lead(2, 2)
	own.Resign(2, 2)
	two := <-m.leaders[2].streams
	sub := <-two.asked
	if sub.GetPosition().GetOffset() != 1 || sub.GetPosition().GetLeaderEpoch() != 1 || sub.GetForm() != pb.FetchForm_FETCH_FORM_RECORDS {
		t.Errorf("the other leader was asked for %v", sub)
	}

	leadOwn(own, 3)
	m.lead(1, 3)
	two.end <- fmt.Errorf("killed")
	m.append("b")
	wantValue(t, st, 1, "b")
}

// startDeposed starts broker 1, which was deposed and knows it, as the metadata
// does not yet.
func startDeposed(t *testing.T) *movingLeader {
	t.Helper()
	m := startMovingLeader(t)
	m.own, m.found = ownPartition(t), make(chan struct{}, 1)
	leadOwn(m.own, 1)
	m.own.Resign(2, 2)
	m.lead(1, 1)
	return m
}

func TestASubscriptionOfADeposedLeaderBeginsAtTheNext(t *testing.T) {
	m := startDeposed(t)
	st := subscribeTo(t, m, &pb.FetchSubscription{SubscriptionId: 1, Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS})
	<-m.found
	m.lead(2, 2)
	two := <-m.leaders[2].streams
	two.answer(t, <-two.asked, true, 0, 2, "a")
	wantValue(t, st, 0, "a")
}

func TestAnAppendToADeposedLeaderWaitsForTheNext(t *testing.T) {
	m := startDeposed(t)
	go func() {
		<-m.found
		leadOwn(m.own, 3)
		m.lead(1, 3)
	}()
	m.append("a")
}
