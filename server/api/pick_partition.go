package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// pickTTL is how long a client may keep to a choice of partition: so long the
// keys of a growing topic go both ways.
const pickTTL = time.Minute

// PickPartition says to which partition a key belongs.
func (s *TopicService) PickPartition(ctx context.Context, r *pb.PickPartitionRequest) (*pb.PickPartitionResponse, error) {
	var key []byte
	switch k := r.GetKeyForm().(type) {
	case *pb.PickPartitionRequest_Key:
		key = k.Key
	case *pb.PickPartitionRequest_KeyText:
		key = []byte(k.KeyText)
	default:
		return nil, fieldFault("key", "is missing")
	}
	m, t, err := s.topicOf(ctx, r.GetTopic(), r.GetMinRevision())
	if err != nil {
		return nil, err
	}
	n := uint32(len(t.Partitions))
	id := uint32(record.PartitionForKey(key, n))
	return &pb.PickPartitionResponse{
		Partition: id, PartitionCount: n, Leader: leaderOf(m, t.Partition(id)), Ttl: durationpb.New(pickTTL),
	}, nil
}
