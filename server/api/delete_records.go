package api

import (
	"context"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/storage/record"
)

// DeleteRecords moves the start of a partition up.
func (s *TopicService) DeleteRecords(ctx context.Context, r *pb.DeleteRecordsRequest) (*pb.DeleteRecordsResponse, error) {
	if r.BeforeOffset == nil {
		return nil, fieldFault("before_offset", "is missing")
	}
	if err := checkRequestID(r.GetRequestId()); err != nil {
		return nil, err
	}
	_, t, err := s.topicOf(ctx, r.GetTopic(), r.GetMinRevision())
	if err != nil {
		return nil, err
	}
	if err := expected(ctx, s.metadata, t, r.GetPartition()); err != nil {
		return nil, err
	}
	out := &pb.DeleteRecordsResponse{}
	err = s.run(ctx, t, func() error {
		p, err := readable(ctx, s.broker, t, r.GetPartition())
		if err != nil {
			return err
		}
		start, err := p.DeleteRecords(ctx, record.Offset(r.GetBeforeOffset()))
		out.LogStart = int64(start)
		return err
	}, func(to forward.Target) error {
		q := &pb.DeleteRecordsRequest{
			Topic: r.GetTopic(), Partition: r.GetPartition(), BeforeOffset: r.BeforeOffset, RequestId: r.GetRequestId(),
			MinRevision: max(r.GetMinRevision(), to.Revision),
		}
		return repeatable(forward.Call(ctx, s.peers, to, pb.TopicService_DeleteRecords_FullMethodName, q, out))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
