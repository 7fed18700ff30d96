package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// drainView is what a drain has to move, as JSON and YAML show it.
type drainView struct {
	BrokerID       int32  `json:"broker_id"`
	ReplicaCount   uint32 `json:"replica_count"`
	BytesPerSecond uint64 `json:"bytes_per_second"`
	DryRun         bool   `json:"dry_run"`
	Revision       int64  `json:"revision"`
}

func (v drainView) table() *table {
	t := &table{header: []string{"DRAINED", "REPLICAS-TO-MOVE", "THROTTLE"}}
	t.add(v.BrokerID, v.ReplicaCount, throttle(v.BytesPerSecond))
	return t
}

func (p *Program) clusterDrain() *cobra.Command {
	var req pb.DrainBrokerRequest
	var agree consent
	var waits patienceFlags
	c := &cobra.Command{
		Use: "drain BROKER", Short: "Move everything away from a broker",
		Long: `Move everything away from a broker, and place nothing more on it, until
'cluster undrain'. Nothing is given up: the replicas that there are stay until
those that take their place are in sync. It is refused if a replica could go
nowhere. Without --yes or --dry-run the command asks, or, where nobody can
answer, shows what there is to do and fails.`,
		Example: `  millstream cluster drain 4 --dry-run
  millstream cluster drain 4 --yes --wait --throttle 50000000`,
		Args: takes("BROKER"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if req.BrokerId, err = brokerArg(c, args[0]); err != nil {
				return err
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			if err := errors.Join(agree.check(c), waits.check(c)); err != nil {
				return err
			}
			drain := func(dry bool) (drainView, error) {
				req.ValidateOnly = dry
				resp, err := call(p, c, cluster, pb.ClusterServiceClient.DrainBroker, &req)
				return drainView{req.GetBrokerId(), resp.GetReplicaCount(), req.GetBytesPerSecond(), dry, resp.GetRevision()}, err
			}
			plan, err := drain(true)
			if err != nil {
				return err
			}
			if ok, err := p.agreed(c, agree, plan, plan.table()); !ok {
				return err
			}
			did, err := drain(false)
			if err != nil {
				return err
			}
			if waits.wait {
				if err := p.awaitDrained(c, waits, did); err != nil {
					return err
				}
			}
			return p.show(c, did, did.table())
		},
	}
	throttleFlag(c, &req.BytesPerSecond)
	agree.flags(c)
	waits.flags(c)
	return c
}

// awaitDrained waits until a broker holds nothing.
func (p *Program) awaitDrained(c *cobra.Command, w patienceFlags, v drainView) error {
	return p.await(c, w, func() (int, string, error) {
		list, err := call(p, c, cluster, pb.ClusterServiceClient.ListBrokers, &pb.ListBrokersRequest{})
		if err != nil {
			return 0, "", err
		}
		at := slices.IndexFunc(list.GetBrokers(), func(b *pb.Broker) bool { return b.GetBrokerId() == v.BrokerID })
		if at < 0 {
			return 0, fmt.Sprintf("broker %d was removed", v.BrokerID), nil // which it cannot be while it holds anything
		}
		left := list.GetBrokers()[at].GetReplicaCount()
		if left > 0 && !list.GetBrokers()[at].GetDraining() {
			return 0, "", fmt.Errorf("broker %d is not drained any more and holds %s", v.BrokerID, counted(left, "replica", "replicas"))
		}
		moves, err := p.reassignments(c)
		moves = slices.DeleteFunc(moves, func(m *pb.OngoingReassignment) bool {
			return !slices.Contains(m.GetPlacement().GetReplicas(), v.BrokerID)
		})
		return int(left), fmt.Sprintf("broker %d: %s left of %d%s", v.BrokerID, counted(left, "replica", "replicas"), max(left, v.ReplicaCount), awaitedBy(moves)), err
	})
}

func (p *Program) clusterUndrain() *cobra.Command {
	var req pb.UndrainBrokerRequest
	c := &cobra.Command{
		Use: "undrain BROKER", Short: "Let a broker take replicas again",
		Long: `Let a broker take replicas again. What is being moved away from it goes on:
'cluster move --cancel' puts it back.`,
		Args: takes("BROKER"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if req.BrokerId, err = brokerArg(c, args[0]); err != nil {
				return err
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			resp, err := call(p, c, cluster, pb.ClusterServiceClient.UndrainBroker, &req)
			if err != nil {
				return err
			}
			return p.showBroker(c, "UNDRAINED", req.GetBrokerId(), req.GetValidateOnly(), resp.GetRevision())
		},
	}
	c.Flags().BoolVar(&req.ValidateOnly, "dry-run", false, "check only, change nothing")
	return c
}

// brokerChange is a broker that was changed, as JSON and YAML show it.
type brokerChange struct {
	BrokerID int32 `json:"broker_id"`
	DryRun   bool  `json:"dry_run"`
	Revision int64 `json:"revision"`
}

func (p *Program) showBroker(c *cobra.Command, what string, id int32, dry bool, revision int64) error {
	t := &table{header: []string{what, "REVISION"}}
	t.add(id, revision)
	return p.show(c, brokerChange{id, dry, revision}, t)
}

func (p *Program) clusterRemove() *cobra.Command {
	var req pb.RemoveBrokerRequest
	var agree consent
	c := &cobra.Command{
		Use: "remove BROKER", Short: "Forget a broker that holds nothing and is stopped", Aliases: []string{"rm"},
		Long: `Forget a broker that holds nothing and is stopped. It is refused while the
broker holds replicas or runs: drain it with 'cluster drain', then stop it. A
broker that is started again after it was removed is a new one.`,
		Example: "  millstream cluster remove 4 --yes",
		Args:    takes("BROKER"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if req.BrokerId, err = brokerArg(c, args[0]); err != nil {
				return err
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			if err := agree.check(c); err != nil {
				return err
			}
			req.ValidateOnly = true
			resp, err := call(p, c, cluster, pb.ClusterServiceClient.RemoveBroker, &req)
			if err != nil {
				return err
			}
			t := &table{header: []string{"TO-REMOVE", "REVISION"}}
			t.add(req.GetBrokerId(), resp.GetRevision())
			if ok, err := p.agreed(c, agree, brokerChange{req.GetBrokerId(), true, resp.GetRevision()}, t); !ok {
				return err
			}
			req.ValidateOnly = false
			if resp, err = call(p, c, cluster, pb.ClusterServiceClient.RemoveBroker, &req); err != nil {
				return err
			}
			return p.showBroker(c, "REMOVED", req.GetBrokerId(), false, resp.GetRevision())
		},
	}
	agree.flags(c)
	return c
}
