package api

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
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
	since := partition.Uptime()
	elsewhere := make(map[int32][]int)                   // indexes, by leader
	patience, cancel := context.WithTimeout(ctx, s.wait) // for all of them together
	defer cancel()
	for i, id := range ids {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var found *pb.PartitionOffset
		err := s.settled(ctx, patience, func() (err error) {
			found, err = s.findOffset(ctx, r, t, id, since)
			return err
		})
		if to, ok := s.to(ctx, t.ID, err); ok {
			elsewhere[to.Leader] = append(elsewhere[to.Leader], i)
		} else if err != nil {
			found = noOffset(id, err)
		}
		out.Offsets[i] = found
	}
	s.findElsewhere(ctx, r, t, ids, elsewhere, out)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return out, nil
}

// findElsewhere asks the leaders of partitions that are not led here, each
// once; where that is in vain, for each partition whoever leads it by then.
func (s *TopicService) findElsewhere(ctx context.Context, r *pb.ListOffsetsRequest, t *metadata.Topic, ids []uint32, elsewhere map[int32][]int, out *pb.ListOffsetsResponse) {
	var asking sync.WaitGroup
	for leader, indexes := range elsewhere {
		asking.Go(func() {
			some := make([]uint32, len(indexes))
			for k, i := range indexes {
				some[k] = ids[i]
			}
			got, err := s.askOffsets(ctx, r, leader, some)
			for k, i := range indexes {
				switch {
				case err != nil:
					out.Offsets[i] = s.findAnywhere(ctx, r, t, ids[i])
				case got[k].GetError().GetReason() == pb.ErrorReason_ERROR_REASON_NOT_LEADER:
					out.Offsets[i] = s.findAnywhere(ctx, r, t, ids[i])
				default:
					out.Offsets[i] = got[k]
				}
			}
		})
	}
	asking.Wait()
}

// findAnywhere answers for one partition, whoever leads it.
func (s *TopicService) findAnywhere(ctx context.Context, r *pb.ListOffsetsRequest, t *metadata.Topic, id uint32) *pb.PartitionOffset {
	var found *pb.PartitionOffset
	err := s.run(ctx, t, func() (err error) {
		found, err = s.findOffset(ctx, r, t, id, partition.Uptime())
		return err
	}, func(to forward.Target) error {
		got, err := s.askOffsets(ctx, r, to.Leader, []uint32{id})
		if err != nil {
			return repeatable(err)
		}
		if found = got[0]; found.GetError().GetReason() == pb.ErrorReason_ERROR_REASON_NOT_LEADER {
			return leaderFault(found.GetError().GetLeader(), found.GetError().GetMessage())
		}
		return nil
	})
	if err != nil {
		return noOffset(id, err)
	}
	return found
}

// askOffsets asks a broker; the answer has one for each partition.
func (s *TopicService) askOffsets(ctx context.Context, r *pb.ListOffsetsRequest, leader int32, partitions []uint32) ([]*pb.PartitionOffset, error) {
	q := &pb.ListOffsetsRequest{
		Topic: r.GetTopic(), Partitions: partitions, At: r.GetAt(), MinRevision: max(r.GetMinRevision(), s.metadata.Current().Revision),
	}
	got := &pb.ListOffsetsResponse{}
	if err := forward.CallBroker(ctx, s.peers, leader, pb.TopicService_ListOffsets_FullMethodName, q, got); err != nil {
		return nil, err
	}
	if n := len(got.GetOffsets()); n != len(partitions) {
		return nil, fmt.Errorf("broker %d answered for %d of %d partitions", leader, n, len(partitions))
	}
	return got.GetOffsets(), nil
}

// noOffset says why there is none.
func noOffset(id uint32, err error) *pb.PartitionOffset {
	f := FaultOf(err)
	if f == nil {
		f = rpc.InternalFault()
	}
	return &pb.PartitionOffset{Partition: id, LeaderEpoch: -1, Error: f.RequestError()}
}

// findOffset answers for one partition that is led here, as it was at that time
// or later.
func (s *TopicService) findOffset(ctx context.Context, r *pb.ListOffsetsRequest, t *metadata.Topic, id uint32, since time.Duration) (*pb.PartitionOffset, error) {
	p, err := readable(ctx, s.broker, t, id)
	if err != nil {
		return nil, err
	}
	var offset record.Offset
	switch at := r.GetAt().(type) {
	case *pb.ListOffsetsRequest_Time:
		if offset, err = timeOf(ctx, p, "time", at.Time, since); err != nil {
			return nil, err
		}
	case *pb.ListOffsetsRequest_Latest:
		if offset, err = freshEnd(ctx, p, since); err != nil {
			return nil, err
		}
	default:
		offset = p.State().LogStart
	}
	return &pb.PartitionOffset{Partition: id, Offset: new(int64(offset)), LeaderEpoch: int32(p.EpochBefore(offset))}, nil
}
