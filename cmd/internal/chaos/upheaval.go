package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// upheaval changes who is in the cluster, and where everything is, and in the
// middle of each step somebody is killed, stands still or is cut off. By turns
// it is a broker that is replaced, or a controller. At the end every broker has
// to say the same of everything, and that what was asked for.
func upheaval(ctx context.Context, r *run) error {
	if err := r.whole(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	if err := r.wide.write(bounded, r.anyConn()); err != nil {
		return err
	}
	replace := r.replaceBroker
	if r.turn("upheaval")%2 == 1 {
		replace = r.replaceController
	}
	if err := errors.Join(replace(ctx), ctx.Err()); err != nil {
		return err
	}
	if err := errors.Join(r.whole(ctx), r.agree(ctx)); err != nil {
		return err
	}
	bounded, cancel = context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	return r.wide.look(bounded, r.anyConn())
}

// amid does something, in the middle of which somebody is disturbed who is not
// spared: but for when the time of the run is over. It has mendTimeout to be
// done, and is repeated until it is.
func (r *run) amid(ctx context.Context, what string, do func(ctx context.Context) error, spared ...*cluster.Member) error {
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- untilEach(ctx, 10*time.Second, do) }()
	var disturbed error
	if !r.over() {
		r.linger(ctx, 0, time.Second)
		disturbed = r.disturb(ctx, spared)
	}
	if disturbed != nil {
		cancel()
	}
	err := errors.Join(disturbed, <-done)
	r.say("%9s %-16s %s: %v\n", "", "upheaval", what, time.Since(begun).Round(time.Millisecond))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// disturb kills somebody who is not spared, lets it stand still, or cuts it off,
// for a while.
func (r *run) disturb(ctx context.Context, spared []*cluster.Member) error {
	but := func(ms []*cluster.Member) []*cluster.Member {
		return slices.DeleteFunc(ms, func(m *cluster.Member) bool { return slices.Contains(spared, m) })
	}
	brokers, controllers := but(r.brokers()), but(r.controllers())
	kinds := 5
	if r.rig.network != nil {
		kinds = 7
	}
	kind := r.random.IntN(kinds)
	broker, controller := brokers[r.random.IntN(len(brokers))], controllers[r.random.IntN(len(controllers))]
	tell := func(how string, m *cluster.Member) *cluster.Member {
		r.say("%9s %-16s %s %s\n", "", "upheaval", how, m.Name())
		return m
	}
	switch kind {
	case 0:
		return r.kill(ctx, tell("kill", broker))
	case 1:
		return r.kill(ctx, tell("kill", controller))
	case 2:
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		active, err := r.c.ActiveController(asking)
		cancel()
		if err != nil {
			return err
		}
		if slices.Contains(spared, active) {
			active = controller
		}
		return r.kill(ctx, tell("kill", active))
	case 3:
		return r.freeze(ctx, tell("pause", broker))
	case 4:
		return r.freeze(ctx, tell("pause", controller))
	case 5:
		return r.partition(ctx, "partition")
	default:
		return r.partition(ctx, "one-way")
	}
}

// replaceBroker has the spare broker join, moves everything to where the seed
// says, and has another broker drained, stopped and removed.
func (r *run) replaceBroker(ctx context.Context) error {
	joining, leaving := r.spare, r.anyBroker()
	r.book.Fault("membership", brokerOf(leaving))
	defer r.book.Healed("membership", brokerOf(leaving))
	if err := r.launch(joining); err != nil {
		return err
	}
	r.spare = nil
	if err := r.amid(ctx, joining.Name()+" joins", joining.AwaitReady); err != nil {
		return err
	}
	if !r.over() {
		if err := r.scatter(ctx); err != nil {
			return err
		}
	}
	id := brokerOf(leaving)
	if err := r.amid(ctx, leaving.Name()+" is drained", func(ctx context.Context) error {
		if _, err := r.admin().DrainBroker(ctx, &pb.DrainBrokerRequest{BrokerId: id}); err != nil {
			return err
		}
		return until(ctx, func(ctx context.Context) error { return r.emptied(ctx, id) })
	}); err != nil {
		return err
	}
	r.guard.expect(leaving)
	if err := leaving.Stop(ctx); err != nil {
		return err
	}
	if err := r.amid(ctx, leaving.Name()+" is removed", func(ctx context.Context) error {
		_, err := r.admin().RemoveBroker(ctx, &pb.RemoveBrokerRequest{BrokerId: id})
		return unless(err, pb.ErrorReason_ERROR_REASON_UNKNOWN_BROKER) // it was done, and the answer lost
	}, leaving); err != nil {
		return err
	}
	r.spare = leaving
	return empty(leaving.DataDir())
}

// emptied fails while a broker has replicas.
func (r *run) emptied(ctx context.Context, id int32) error {
	got, err := r.admin().ListBrokers(ctx, &pb.ListBrokersRequest{})
	if err != nil {
		return err
	}
	for _, b := range got.GetBrokers() {
		if b.GetBrokerId() == id && b.GetReplicaCount() > 0 {
			return fmt.Errorf("it has %d replicas", b.GetReplicaCount())
		}
	}
	return nil
}

// scatter moves every partition to brokers that the seed decides.
func (r *run) scatter(ctx context.Context) error {
	brokers := r.brokers()
	var left []*pb.Reassignment
	for _, name := range r.topicNames() {
		n := partitions
		if name == wideTopic {
			n = widePartitions
		}
		for p := range uint32(n) {
			var to []int32
			for _, m := range r.inOrder(brokers)[:3] {
				to = append(to, brokerOf(m))
			}
			left = append(left, &pb.Reassignment{Topic: name, Partition: p, Replicas: to})
		}
	}
	wanted := slices.Clone(left)
	return r.amid(ctx, fmt.Sprintf("%d partitions move", len(wanted)), func(ctx context.Context) error {
		if len(left) > 0 {
			got, err := r.admin().ReassignPartitions(ctx, &pb.ReassignPartitionsRequest{Reassignments: left})
			if err != nil {
				return err
			}
			var refused []*pb.Reassignment
			for i, res := range got.GetResults() {
				if e := res.GetError(); e != nil {
					refused, err = append(refused, left[i]), errors.New(e.GetMessage())
				}
			}
			if left = refused; err != nil {
				return err
			}
		}
		return until(ctx, func(ctx context.Context) error { return r.placed(ctx, wanted) })
	})
}

// placed fails while partitions are not where they were wanted.
func (r *run) placed(ctx context.Context, wanted []*pb.Reassignment) error {
	through := pb.NewTopicServiceClient(r.someConn())
	held := map[string]*pb.GetTopicResponse{}
	for _, w := range wanted {
		topic := held[w.GetTopic()]
		if topic == nil {
			var err error
			if topic, err = through.GetTopic(ctx, &pb.GetTopicRequest{Topic: w.GetTopic()}); err != nil {
				return err
			}
			held[w.GetTopic()] = topic
		}
		p := topic.GetPartitions()[w.GetPartition()]
		if !slices.Equal(p.GetReplicas(), w.GetReplicas()) {
			return fmt.Errorf("%s/%d is held by %v, and was moved to %v", w.GetTopic(), w.GetPartition(), p.GetReplicas(), w.GetReplicas())
		}
	}
	return nil
}

// admin is for asking one broker after the other.
func (r *run) admin() pb.ClusterServiceClient {
	return pb.NewClusterServiceClient(r.someConn())
}

// unless returns err, but for a refusal of that reason.
func unless(err error, reason pb.ErrorReason) error {
	if e := rpc.RequestErrorOf(err); e != nil && e.GetReason() == reason {
		return nil
	}
	return err
}
