package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// namedWithin is how long a partition may be led by nobody before somebody says
// whom it waits for.
const namedWithin = 5 * time.Second

// lookOffline looks which partitions nobody leads, as one of the brokers says
// it: of each it has to say whom it waits for, and there has to be one, since
// in a script everybody comes back. What is not so is a failure that no rule
// sees. If none of them answers, or reaches the controllers, nothing is said.
func (r *run) lookOffline(ctx context.Context, through []*cluster.Member) {
	var why error
	for begun := time.Now(); ; {
		answered := false
		for _, m := range through {
			var text string
			var ok bool
			if text, why, ok = r.offlineBy(ctx, m); !ok {
				continue
			}
			answered = true
			if why == nil {
				if text != "" {
					r.say("%9s %-16s %s\n", "", "offline", text)
				}
				return
			}
			break
		}
		if !answered {
			return
		}
		if time.Since(begun) > namedWithin {
			r.guard.note(why)
			return
		}
		if !pause(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// offlineBy asks a broker which partitions nobody leads. ok is false if it does
// not know; why says what is wrong with its answer.
func (r *run) offlineBy(ctx context.Context, m *cluster.Member) (text string, why error, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	through := pb.NewClusterServiceClient(r.connTo(m))
	before, err := through.DescribeCluster(ctx, &pb.DescribeClusterRequest{})
	if err != nil {
		return "", nil, false
	}
	got, err := through.ListOfflinePartitions(ctx, &pb.ListOfflinePartitionsRequest{})
	if err != nil {
		return "", nil, false
	}
	after, err := through.DescribeCluster(ctx, &pb.DescribeClusterRequest{})
	if err != nil {
		return "", nil, false
	}
	text, why = judgeOffline(got.GetPartitions(), min(before.GetOfflinePartitionCount(), after.GetOfflinePartitionCount()))
	return text, why, true
}

// judgeOffline says which partitions wait for whom, and what is wrong with it:
// one waits for nobody, or more are led by nobody than are told.
func judgeOffline(told []*pb.OfflinePartition, unled uint32) (text string, why error) {
	waiting := map[string][]string{}
	for _, p := range told {
		name := fmt.Sprintf("%s/%d", p.GetTopic(), p.GetPartition())
		awaited := p.GetAwaitedBrokerIds()
		if len(awaited) == 0 {
			return "", fmt.Errorf("nobody leads %s, and it waits for nobody", name)
		}
		whom := fmt.Sprint(slices.Sorted(slices.Values(awaited)))
		waiting[whom] = append(waiting[whom], name)
	}
	if int(unled) > len(told) {
		return "", fmt.Errorf("nobody leads %d partitions, and whom they wait for is told of %d", unled, len(told))
	}
	var parts []string
	for whom, names := range waiting {
		if len(names) > mostNamed {
			names = append(names[:mostNamed:mostNamed], fmt.Sprintf("%d more", len(names)-mostNamed))
		}
		parts = append(parts, fmt.Sprintf("%s for %s", strings.Join(names, " "), whom))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", "), nil
}

// mostNamed is how many partitions are named that wait for the same brokers.
const mostNamed = 8
