package api

import (
	"context"
	"fmt"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// DeleteTopic deletes a topic.
func (s *TopicService) DeleteTopic(ctx context.Context, r *pb.DeleteTopicRequest) (*pb.DeleteTopicResponse, error) {
	if err := topicconfig.ValidateNewName(r.GetTopic()); err != nil { // the system's are not deleted by request
		return nil, err
	}
	if n := len(r.GetTopicId()); n != 0 && n != len(metadata.TopicID{}) {
		return nil, fieldFault("topic_id", fmt.Sprintf("has %d bytes, not %d", n, len(metadata.TopicID{})))
	}
	if err := checkRequestID(r.GetRequestId()); err != nil {
		return nil, err
	}
	done, err := s.controller.DeleteTopic(ctx, &controllerv1.DeleteTopicRequest{
		Topic: r.GetTopic(), TopicId: r.GetTopicId(), Now: r.GetNow(), RequestId: r.GetRequestId(),
	})
	if err != nil {
		return nil, err
	}
	if _, err := s.metadata.Wait(ctx, done.GetRevision()); err != nil {
		return nil, err
	}
	return &pb.DeleteTopicResponse{Revision: done.GetRevision()}, nil
}
