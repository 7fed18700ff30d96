package api

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/topicconfig"
	"github.com/millstream-io/millstream/storage/record"
)

// ListOffsets finds offsets by time or by name, each for itself.
func (s *TopicService) ListOffsets(ctx context.Context, r *pb.ListOffsetsRequest) (*pb.ListOffsetsResponse, error) {
	if n := len(r.GetPartitions()); n > topicconfig.MaxPartitions {
		return nil, rpc.LimitFault(codes.InvalidArgument, "partitions", topicconfig.MaxPartitions, int64(n),
			fmt.Sprintf("partitions names %d, at most %d are allowed", n, topicconfig.MaxPartitions))
	}
	if at, ok := r.GetAt().(*pb.ListOffsetsRequest_Time); ok && at.Time.CheckValid() != nil {
		return nil, fieldFault("time", "is no valid time")
	}
	_, t, err := s.topicOf(ctx, r.GetTopic(), r.GetMinRevision())
	if err != nil {
		return nil, err
	}
	ids := r.GetPartitions()
	if len(ids) == 0 {
		for _, p := range t.Partitions {
			ids = append(ids, p.ID)
		}
	}
	out := &pb.ListOffsetsResponse{Offsets: make([]*pb.PartitionOffset, len(ids))}
	for i, id := range ids {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		out.Offsets[i] = s.findOffset(ctx, r, t, id)
	}
	return out, nil
}

// findOffset answers for one partition.
func (s *TopicService) findOffset(ctx context.Context, r *pb.ListOffsetsRequest, t *metadata.Topic, id uint32) *pb.PartitionOffset {
	out := &pb.PartitionOffset{Partition: id, LeaderEpoch: -1}
	failed := func(err error) *pb.PartitionOffset {
		f := FaultOf(err)
		if f == nil {
			f = rpc.InternalFault()
		}
		out.Error = f.RequestError()
		return out
	}
	p, err := readable(ctx, s.broker, t, id)
	if err != nil {
		return failed(err)
	}
	var offset record.Offset
	switch at := r.GetAt().(type) {
	case *pb.ListOffsetsRequest_Time:
		if offset, err = timeOf(ctx, p, "time", at.Time); err != nil {
			return failed(err)
		}
	case *pb.ListOffsetsRequest_Latest:
		offset = p.State().HighWatermark
	default:
		offset = p.State().LogStart
	}
	out.Offset, out.LeaderEpoch = new(int64(offset)), int32(p.EpochBefore(offset))
	return out
}
