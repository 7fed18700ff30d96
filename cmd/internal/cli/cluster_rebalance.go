package cli

import (
	"errors"

	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func (p *Program) clusterRebalance() *cobra.Command {
	var req pb.RebalanceReplicasRequest
	var agree consent
	var waits patienceFlags
	var leaders bool
	var topic string
	c := &cobra.Command{
		Use: "rebalance", Short: "Move replicas to brokers that hold few, or leaders to where they are preferred",
		Long: `Move replicas from brokers that hold many to those that hold few, as after a
broker was added. Repeat it until it finds nothing to move. With --leaders have
partitions led by the first of their replicas instead, where that is in sync:
the cluster does so by itself every few minutes.`,
		Example: `  millstream cluster rebalance --dry-run
  millstream cluster rebalance --yes --wait --throttle 50000000
  millstream cluster rebalance --leaders --yes`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			if err := errors.Join(agree.check(c), waits.check(c)); err != nil {
				return err
			}
			if leaders {
				if waits.wait || c.Flags().Changed("throttle") || c.Flags().Changed("max-moves") {
					return misuse(c, "--leaders excludes --wait, --throttle and --max-moves: no data is moved")
				}
				return p.electLeaders(c, agree, topic)
			}
			if topic != "" {
				return misuse(c, "--topic needs --leaders")
			}
			return p.carryOut(c, agree, &waits, func(dry bool) (*movesView, error) {
				req.ValidateOnly = dry
				resp, err := call(p, c, cluster, pb.ClusterServiceClient.RebalanceReplicas, &req)
				v := &movesView{DryRun: dry, BytesPerSecond: req.GetBytesPerSecond(), Revision: resp.GetRevision(), Moves: []moveView{}}
				v.add(resp.GetResults())
				return v, err
			})
		},
	}
	c.Flags().Uint32Var(&req.MaxMoves, "max-moves", 100, "most partitions to move, 1 to 1,000")
	c.Flags().BoolVar(&leaders, "leaders", false, "elect preferred leaders instead of moving replicas")
	c.Flags().StringVar(&topic, "topic", "", "with --leaders: of this topic only")
	throttleFlag(c, &req.BytesPerSecond)
	agree.flags(c)
	waits.flags(c)
	return c
}

// electedView is an election of preferred leaders, as JSON and YAML show it.
type electedView struct {
	Elected     uint32 `json:"elected_count"`
	NotPossible uint32 `json:"not_possible_count"`
	DryRun      bool   `json:"dry_run"`
	Revision    int64  `json:"revision"`
}

func (v electedView) table() *table {
	t := &table{header: []string{"ELECTED", "NOT-POSSIBLE", "REVISION"}}
	if v.DryRun {
		t.header[0] = "TO-ELECT"
	}
	t.add(v.Elected, v.NotPossible, v.Revision)
	return t
}

func (p *Program) electLeaders(c *cobra.Command, agree consent, topic string) error {
	elect := func(dry bool) (electedView, error) {
		resp, err := call(p, c, cluster, pb.ClusterServiceClient.ElectPreferredLeaders, &pb.ElectPreferredLeadersRequest{Topic: topic, ValidateOnly: dry})
		return electedView{resp.GetElectedCount(), resp.GetNotPossibleCount(), dry, resp.GetRevision()}, err
	}
	plan, err := elect(true)
	if err != nil {
		return err
	}
	if ok, err := p.agreed(c, agree, plan, plan.table()); !ok {
		return err
	}
	did, err := elect(false)
	if err != nil {
		return err
	}
	return p.show(c, did, did.table())
}
