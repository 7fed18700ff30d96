package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// agree waits until all brokers say the same: of who is in the cluster, who is
// meant to be; and of each partition who leads it in which epoch, who holds it
// and who is in sync.
func (r *run) agree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	brokers, controllers := idsOf(r.brokers()), idsOf(r.controllers())
	if err := until(ctx, func(ctx context.Context) error {
		var first string
		for _, m := range r.brokers() {
			if err := r.members(ctx, m, brokers, controllers); err != nil {
				return err
			}
			said, err := r.placements(ctx, m)
			if err != nil {
				return err
			}
			if first == "" {
				first = said
			}
			if at := differs(first, said); at != "" {
				return fmt.Errorf("%s says %s, and %s otherwise", m.Name(), at, r.brokers()[0].Name())
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("the brokers do not agree %v after everything was mended: %w", mendTimeout, err)
	}
	return nil
}

// members compares who is in the cluster, as a broker says it.
func (r *run) members(ctx context.Context, m *cluster.Member, brokers, controllers []int32) error {
	through := pb.NewClusterServiceClient(r.connTo(m))
	bs, err := through.ListBrokers(ctx, &pb.ListBrokersRequest{})
	if err != nil {
		return err
	}
	var ids []int32
	for _, b := range bs.GetBrokers() {
		ids = append(ids, b.GetBrokerId())
	}
	if slices.Sort(ids); !slices.Equal(ids, brokers) {
		return fmt.Errorf("%s says that the brokers are %v, and they are %v", m.Name(), ids, brokers)
	}
	cs, err := through.ListControllers(ctx, &pb.ListControllersRequest{})
	if err != nil {
		return err
	}
	ids = nil
	for _, c := range cs.GetControllers() {
		if c.GetLearner() || !c.GetReachable() {
			return fmt.Errorf("%s says of controller %d: %v", m.Name(), c.GetControllerId(), c)
		}
		ids = append(ids, c.GetControllerId())
	}
	if slices.Sort(ids); !slices.Equal(ids, controllers) {
		return fmt.Errorf("%s says that the controllers are %v, and they are %v", m.Name(), ids, controllers)
	}
	return nil
}

// placements is what a broker says of all partitions, one a line.
func (r *run) placements(ctx context.Context, m *cluster.Member) (string, error) {
	var said strings.Builder
	for _, name := range r.topicNames() {
		got, err := pb.NewTopicServiceClient(r.connTo(m)).GetTopic(ctx, &pb.GetTopicRequest{Topic: name})
		if err != nil {
			return "", err
		}
		for _, p := range got.GetPartitions() {
			_, _ = fmt.Fprintf(&said, "%s/%d: led by %d in epoch %d, held by %v, in sync %v, partition epoch %d\n", name, p.GetPartition(),
				p.GetLeader().GetBrokerId(), p.GetLeader().GetLeaderEpoch(), p.GetReplicas(), p.GetInSyncReplicas(), p.GetPartitionEpoch())
		}
	}
	return said.String(), nil
}

// topicNames are all topics of the run.
func (r *run) topicNames() []string {
	if r.wide.made {
		return append(topics[:], wideTopic)
	}
	return topics[:]
}

// differs returns the first line of b that is not that of a; "": all are.
func differs(a, b string) string {
	before := strings.Split(a, "\n")
	for i, line := range strings.Split(b, "\n") {
		if i >= len(before) || before[i] != line {
			return line
		}
	}
	return ""
}

// idsOf are the numbers of members, in order.
func idsOf(ms []*cluster.Member) []int32 {
	var ids []int32
	for _, m := range ms {
		ids = append(ids, int32(m.ID))
	}
	slices.Sort(ids)
	return ids
}
