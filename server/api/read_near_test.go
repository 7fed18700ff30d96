package api

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// ListOffsets says where the log of a leader that a test plays ends.
func (l *playedLeader) ListOffsets(context.Context, *pb.ListOffsetsRequest) (*pb.ListOffsetsResponse, error) {
	return &pb.ListOffsetsResponse{Offsets: []*pb.PartitionOffset{{Offset: new(l.logEnd.Load())}}}, nil
}

// ReplicaOf returns the replica of broker 1, whoever leads.
func (m *movingLeader) ReplicaOf(*metadata.Topic, uint32) (*partition.Partition, error) {
	if err := m.own.ServesReaders(); err != nil {
		return nil, err
	}
	return m.own, nil
}

// ledBy says that another broker leads what broker 1, in rack a, has in sync.
func (m *movingLeader) ledBy(id, epoch int32) {
	m.t.Helper()
	m.revision++
	topic := make([]byte, 16)
	if err := m.mirror.Apply(&controllerv1.WatchMetadataResponse{
		SnapshotBegin: true, SnapshotEnd: true, Revision: m.revision, ClusterGeneration: 1, Changes: []*controllerv1.MetadataChange{
			{Change: &controllerv1.MetadataChange_Topic{Topic: &controllerv1.TopicRecord{TopicId: topic, Topic: "t", PartitionCount: 1, ReplicationFactor: 2}}},
			{Change: &controllerv1.MetadataChange_Broker{Broker: &controllerv1.BrokerRecord{BrokerId: 1, BrokerEpoch: 1, Rack: "a"}}},
			{Change: &controllerv1.MetadataChange_Partition{Partition: &controllerv1.PartitionRecord{
				TopicId: topic, Leader: id, LeaderEpoch: epoch, PartitionEpoch: epoch, Replicas: []int32{1, id}, InSyncReplicas: []int32{1, id}, DirectoryIds: [][]byte{topic, topic},
			}}},
		},
	}); err != nil {
		m.t.Fatal(err)
	}
}

// followed has a partition follow a leader whose log begins as its own, up to an
// end that is committed.
func followed(p *partition.Partition, leader replica.ID, epoch record.LeaderEpoch, committed record.Offset) (session uint64) {
	up := &leaderWithLess{make(chan replica.Open, 8)}
	p.Follow(replica.Assignment{Epoch: epoch, Replicas: []replica.ID{1, leader}, InSync: []replica.ID{1, leader}, MinInSync: 1}, leader, up)
	p.Connect(up)
	session = (<-up.opens).Session
	p.SessionOpened(replica.Opened{Session: session, Epoch: epoch, HighWatermark: committed, End: committed})
	return session
}

// push sends committed records to a partition that follows.
func push(p *partition.Partition, session uint64, epoch record.LeaderEpoch, from record.Offset, values ...string) {
	var b []byte
	for _, v := range values {
		b = record.AppendRecord(b, &record.Record{Value: []byte(v)})
	}
	n, now := len(values), time.Now().UnixMilli()
	head := record.AppendLogBatchHeader(nil, &record.Header{
		BaseOffset: from, Records: uint32(n), LastOffsetDelta: uint32(n - 1), LeaderEpoch: epoch, AppendTimeMs: now, MaxTimestampMs: now,
	}, len(b), record.UpdateCRC(0, b))
	end := from + record.Offset(n)
	p.Push(partition.Pushed{
		Push: replica.Push{Session: session, Epoch: epoch, From: from, HighWatermark: end, End: end}, End: end,
		Batches: record.Pieces{append(head, b...)},
	})
}

// A Read is served in the client's rack, by a replica that is behind: the leader
// has said that the log ends at 5. The next leader, elected at a loss, ends at 3,
// where the replica ends too: the Read waited there for as long as nobody wrote.
func TestAReadNearTheClientEndsWhereTheNextLeaderEnds(t *testing.T) {
	for name, end := range map[string]int64{"which is less": 3, "which is the same": 5} {
		t.Run(name, func(t *testing.T) {
			own := ownPartition(t)
			m := startMovingLeader(t)
			m.own = own
			leadOwn(own, 1)
			m.lead(1, 1)
			// In one batch, which is read at once; of the second more is sent than the
			// transport takes before the client asks for it, so that the third waits.
			values := []string{"a", strings.Repeat("b", 900<<10), "c"}
			r := &pb.AppendRequest{Topic: "t"}
			for _, v := range values {
				r.Records = append(r.Records, &pb.AppendRecord{ValueForm: &pb.AppendRecord_Text{Text: v}})
			}
			if _, err := m.client.Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			followed(own, 2, 2, 3)
			m.ledBy(2, 2)
			m.leaders[2].logEnd.Store(5)
			waitServing(t, own)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			st, err := m.client.Read(ctx, &pb.ReadRequest{Topic: "t", Rack: "a"})
			if err != nil {
				t.Fatal(err)
			}
			wantText(t, st, 0, values[0])

			session := followed(own, 3, 3, 3)
			m.ledBy(3, 3)
			m.leaders[3].logEnd.Store(end)
			waitServing(t, own)
			wantText(t, st, 1, values[1])
			wantText(t, st, 2, values[2])
			if end == 5 { // the rest comes
				push(own, session, 3, 3, "d", "e")
				wantText(t, st, 3, "d")
				wantText(t, st, 4, "e")
				if got, err := st.Recv(); !errors.Is(err, io.EOF) {
					t.Errorf("behind all there is %v, %v", got, err)
				}
				return
			}
			wantReason(t, st, pb.ErrorReason_ERROR_REASON_DIVERGED, false)
		})
	}
}

// waitServing waits until a replica that follows serves readers.
func waitServing(t *testing.T, p *partition.Partition) {
	t.Helper()
	for ctx, last := t.Context(), time.Now(); p.ServesReaders() != nil; {
		if ctx.Err() != nil || time.Since(last) > 10*time.Second {
			t.Fatal(p.ServesReaders())
		}
		<-time.After(time.Millisecond)
	}
}

func wantText(t *testing.T, st grpc.ServerStreamingClient[pb.ReadResponse], offset int64, text string) {
	t.Helper()
	got, err := st.Recv()
	if err != nil || got.GetOffset() != offset || got.GetText() != text {
		t.Fatalf("offset %d: got %d, %d bytes, %v", offset, got.GetOffset(), len(got.GetText()), err)
	}
}
