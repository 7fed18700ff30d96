package api

import (
	"context"
	"fmt"
	"strconv"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"

	"github.com/millstream-io/millstream/controller/reconcile"
)

// maxPage bounds the partitions of one answer.
const maxPage = 1_000

// ListOfflinePartitions is part of ControllerService. Its page token is the
// number of partitions that were listed before: if the list changes meanwhile,
// some may be there twice or not at all.
func (s *Service) ListOfflinePartitions(ctx context.Context, r *controllerv1.ListOfflinePartitionsRequest) (*controllerv1.ListOfflinePartitionsResponse, error) {
	list, err := s.o.Loop.OfflinePartitions(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(controllerv1.ListOfflinePartitionsResponse)
	if list, resp.NextPageToken, err = page(list, r.GetPageSize(), r.GetPageToken()); err != nil {
		return nil, err
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
	if n := len(r.GetLostBrokerIds()); n > reconcile.MaxBrokers {
		return nil, &FieldError{"lost_broker_ids", fmt.Sprintf("must be at most %d, not %d", reconcile.MaxBrokers, n)}
	}
	return s.o.Loop.RecoverPartition(ctx, r)
}

// page returns a piece of a list, and the token of the next; empty: there is
// none.
func page[E any](list []E, size uint32, token string) ([]E, string, error) {
	from := 0
	if token != "" {
		var err error
		if from, err = strconv.Atoi(token); err != nil || from < 0 {
			return nil, "", &FieldError{"page_token", "is not one that was given out"}
		}
	}
	switch {
	case size > maxPage:
		return nil, "", &FieldError{"page_size", fmt.Sprintf("must be at most %d, not %d", maxPage, size)}
	case size == 0:
		size = maxPage
	}
	list = list[min(from, len(list)):]
	if len(list) <= int(size) {
		return list, "", nil
	}
	return list[:size], strconv.Itoa(from + int(size)), nil
}
