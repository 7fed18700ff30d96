package api

import (
	"context"
	"strconv"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// maxOfflinePage bounds the partitions of one answer.
const maxOfflinePage = 1_000

// ListOfflinePartitions is part of ControllerService. Its page token is the
// number of partitions that were listed before: if the list changes meanwhile,
// some may be there twice or not at all.
func (s *Service) ListOfflinePartitions(ctx context.Context, r *controllerv1.ListOfflinePartitionsRequest) (*controllerv1.ListOfflinePartitionsResponse, error) {
	from := 0
	if t := r.GetPageToken(); t != "" {
		var err error
		if from, err = strconv.Atoi(t); err != nil || from < 0 {
			return nil, &FieldError{"page_token", "is not one that was given out"}
		}
	}
	if r.GetPageSize() > maxOfflinePage {
		return nil, &FieldError{"page_size", "must be at most 1000"}
	}
	list, err := s.o.Loop.OfflinePartitions(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(controllerv1.ListOfflinePartitionsResponse)
	size := int(r.GetPageSize())
	if size == 0 {
		size = maxOfflinePage
	}
	list = list[min(from, len(list)):]
	if len(list) > size {
		list, resp.NextPageToken = list[:size], strconv.Itoa(from+size)
	}
	for _, o := range list {
		resp.Partitions = append(resp.Partitions, &controllerv1.OfflinePartition{
			TopicId: o.Topic[:], Topic: o.Name, Partition: o.Partition, AwaitedBrokerIds: o.Awaited,
		})
	}
	return resp, nil
}

// RecoverPartition is part of ControllerService.
func (s *Service) RecoverPartition(ctx context.Context, r *controllerv1.RecoverPartitionRequest) (*controllerv1.RecoverPartitionResponse, error) {
	if err := topicconfig.ValidateName(r.GetTopic()); err != nil {
		return nil, err
	}
	if r.GetPartition() > maxPartition {
		return nil, &FieldError{"partition", "is more than a topic can have"}
	}
	return s.o.Loop.RecoverPartition(ctx, r)
}
