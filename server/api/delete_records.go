package api

import (
	"context"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
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
	p, err := s.partitionOf(ctx, r.GetTopic(), r.GetPartition(), r.GetMinRevision())
	if err != nil {
		return nil, err
	}
	start, err := p.DeleteRecords(ctx, record.Offset(r.GetBeforeOffset()))
	if err != nil {
		return nil, err
	}
	return &pb.DeleteRecordsResponse{LogStart: int64(start)}, nil
}
