package api

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// maxTopicsPage is how many topics a page has at most.
const maxTopicsPage = 1_000

// ListTopics lists topics by name. A page token is the last name of the page
// before.
func (s *TopicService) ListTopics(ctx context.Context, r *pb.ListTopicsRequest) (*pb.ListTopicsResponse, error) {
	size := int(min(r.GetPageSize(), maxTopicsPage))
	if size == 0 {
		size = maxTopicsPage
	}
	after, err := base64.RawURLEncoding.DecodeString(r.GetPageToken())
	if err != nil {
		return nil, fieldFault("page_token", "is not one that ListTopics gave")
	}
	m, err := waitRevision(ctx, ctx, s.metadata, r.GetMinRevision(), s.limits)
	if err != nil {
		return nil, err
	}
	topics := m.Topics()
	from, found := slices.BinarySearchFunc(topics, max(string(after), r.GetPrefix()), func(t *metadata.Topic, name string) int {
		return strings.Compare(t.Name, name)
	})
	if found && topics[from].Name == string(after) {
		from++
	}
	out := &pb.ListTopicsResponse{}
	for _, t := range topics[from:] {
		if !strings.HasPrefix(t.Name, r.GetPrefix()) {
			break
		}
		if topicconfig.Internal(t.Name) && !r.GetIncludeInternal() {
			continue
		}
		if len(out.Topics) == size {
			last := out.Topics[size-1].GetTopic()
			out.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(last))
			break
		}
		out.Topics = append(out.Topics, describe(t))
	}
	return out, nil
}
