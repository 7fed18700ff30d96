package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// membership has the spare broker take the place of another: it joins, the
// other is drained, stopped and removed, and is the spare from then on, with
// nothing on its disk.
func membership(ctx context.Context, r *run) error {
	if err := r.whole(ctx); err != nil {
		return err
	}
	leaving, joining := r.anyBroker(), r.spare
	r.book.Fault("membership", brokerOf(leaving))
	defer r.book.Healed("membership", brokerOf(leaving))
	r.say("%9s %-16s %s for %s\n", "", "membership", joining.Name(), leaving.Name())
	if err := r.startAll(ctx, []*cluster.Member{joining}); err != nil {
		return err
	}
	id := brokerOf(leaving)
	through := pb.NewClusterServiceClient(r.connTo(joining))
	asking, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	if _, err := through.DrainBroker(asking, &pb.DrainBrokerRequest{BrokerId: id}, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("drain %s: %w", leaving.Name(), err)
	}
	if err := until(asking, func(ctx context.Context) error {
		got, err := through.ListBrokers(ctx, &pb.ListBrokersRequest{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(got.GetBrokers(), func(b *pb.Broker) bool { return b.GetBrokerId() == id })
		if i >= 0 && got.GetBrokers()[i].GetReplicaCount() > 0 {
			return fmt.Errorf("it has %d replicas", got.GetBrokers()[i].GetReplicaCount())
		}
		return nil
	}); err != nil {
		return fmt.Errorf("drain %s: %w", leaving.Name(), err)
	}
	r.guard.expect(leaving)
	if err := leaving.Stop(ctx); err != nil {
		return err
	}
	if err := until(asking, func(ctx context.Context) error {
		_, err := through.RemoveBroker(ctx, &pb.RemoveBrokerRequest{BrokerId: id})
		return err
	}); err != nil {
		return fmt.Errorf("remove %s: %w", leaving.Name(), err)
	}
	r.spare = leaving
	if err := empty(leaving.DataDir()); err != nil {
		return err
	}
	return r.whole(ctx)
}

// until does something until it succeeds, or ctx ends.
func until(ctx context.Context, do func(ctx context.Context) error) error {
	return untilEach(ctx, 2*time.Second, do)
}

// untilEach is until with a bound for each time that it is done.
func untilEach(ctx context.Context, most time.Duration, do func(ctx context.Context) error) error {
	for {
		asking, cancel := context.WithTimeout(ctx, most)
		err := do(asking)
		cancel()
		if err == nil || !pause(ctx, 50*time.Millisecond) {
			return err
		}
	}
}

// empty removes what is in a directory.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// brokers are those that are in the cluster.
func (r *run) brokers() []*cluster.Member {
	return slices.DeleteFunc(r.c.Brokers(), func(m *cluster.Member) bool { return m == r.spare })
}

// controllers are those that are in the cluster.
func (r *run) controllers() []*cluster.Member {
	return slices.DeleteFunc(r.c.Controllers(), func(m *cluster.Member) bool { return m == r.spareController })
}

// connTo is the connection to a broker.
func (r *run) connTo(m *cluster.Member) *grpc.ClientConn { return r.conns[m.ID-1] }

// someConn is a connection to one broker of the cluster after the other: who is
// asked may be what is broken.
func (r *run) someConn() *grpc.ClientConn {
	in := r.brokers()
	return r.connTo(in[int(r.asked.Add(1))%len(in)])
}

// anyConn is a connection to a broker that is in the cluster.
func (r *run) anyConn() *grpc.ClientConn { return r.connTo(r.brokers()[0]) }
