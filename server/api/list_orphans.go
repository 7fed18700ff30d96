package api

import (
	"context"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// maxOrphans is how many directories are listed.
const maxOrphans = 10_000

// ListOrphans lists directories of this broker that the metadata does not know.
func (s *ClusterService) ListOrphans(context.Context, *pb.ListOrphansRequest) (*pb.ListOrphansResponse, error) {
	found, err := s.broker.Orphans()
	if err != nil {
		return nil, err
	}
	out := &pb.ListOrphansResponse{}
	for _, o := range found[:min(len(found), maxOrphans)] {
		orphan := &pb.Orphan{BrokerId: s.broker.ID(), Directory: o.Directory, Partition: o.Partition, Bytes: o.Bytes, Trash: o.Trash}
		if id, err := record.ParseTopicID(o.TopicID); err == nil {
			orphan.TopicId = id[:]
		}
		out.Orphans = append(out.Orphans, orphan)
	}
	return out, nil
}
