package cli

import (
	"errors"

	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// errNotAccepted says that a recovery was only looked at.
var errNotAccepted = errors.New("nothing was changed: repeat with --accept-loss to do it, though records may be lost, or with --dry-run to look only")

// recoveryView is a recovery, as JSON and YAML show it.
type recoveryView struct {
	Topic     string    `json:"topic"`
	Partition uint32    `json:"partition"`
	Leader    int32     `json:"leader"`
	Replicas  []int32   `json:"replicas"`
	Awaited   []int32   `json:"awaited_broker_ids"`
	Ends      []endView `json:"ends"`
	DryRun    bool      `json:"dry_run"`
	Revision  int64     `json:"revision"`
}

// endView is where a replica ends.
type endView struct {
	BrokerID        int32 `json:"broker_id"`
	LastLeaderEpoch int32 `json:"last_leader_epoch"`
	End             int64 `json:"end"`
}

func (v recoveryView) tables() []*table {
	whole := &table{header: []string{"TOPIC", "PARTITION", "LEADER", "REPLICAS", "MAY-HAVE-MORE"}}
	if v.DryRun {
		whole.header[2] = "WOULD-LEAD"
	}
	whole.add(v.Topic, v.Partition, v.Leader, ids(v.Replicas), ids(v.Awaited))
	ends := &table{header: []string{"REPLICA", "LAST-EPOCH", "END"}}
	for _, e := range v.Ends {
		ends.add(e.BrokerID, e.LastLeaderEpoch, e.End)
	}
	return []*table{whole, ends}
}

func (p *Program) clusterRecover() *cobra.Command {
	var accept, dryRun bool
	var many bulk
	c := &cobra.Command{
		Use: "recover TOPIC/PARTITION | --topic TOPIC | --all", Short: "Have partitions that nobody leads led again, though records may be lost",
		Long: `Have a partition that nobody leads led by whoever serves and has the most: the
way out when the brokers that it waits for will not come back. 'cluster status'
says whom it waits for. Starting those brokers loses nothing and is always
better. What a replica has that is not chosen is cut from it when it returns.

With --topic or --all that is done to every partition that nobody leads, of
those topics or of all. Name the brokers whose logs will not come back with
--lost: a partition that waits for any other is refused.

Without --accept-loss the command shows who would lead and what is known of the
replicas, and fails; with --dry-run it shows that and succeeds.`,
		Example: `  millstream cluster recover orders/3 --dry-run
  millstream cluster recover orders/3 --accept-loss
  millstream cluster recover --all --lost 2,3 --dry-run
  millstream cluster recover --all --lost 2,3 --accept-loss`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := many.check(c, args); err != nil {
				return err
			}
			if accept && dryRun {
				return misuse(c, "--accept-loss and --dry-run exclude each other")
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			var err error
			if many.wanted() {
				err = p.recoverMany(c, &many, accept)
			} else {
				err = p.recoverOne(c, args[0], accept)
			}
			if !accept && !dryRun {
				return errors.Join(err, errNotAccepted)
			}
			return err
		},
	}
	c.Flags().BoolVar(&accept, "accept-loss", false, "do it, though records may be lost")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be done, change nothing")
	many.flags(c)
	return c
}

// recoverOne recovers a partition, or looks.
func (p *Program) recoverOne(c *cobra.Command, arg string, accept bool) error {
	name, err := parsePartition(c, arg)
	if err != nil {
		return err
	}
	resp, err := call(p, c, cluster, pb.ClusterServiceClient.RecoverPartition, &pb.RecoverPartitionRequest{
		Topic: name.topic, Partition: name.partition, AcceptLoss: accept, ValidateOnly: !accept,
	})
	if err != nil {
		return err
	}
	v := recoveryView{
		Topic: name.topic, Partition: name.partition, Leader: resp.GetPlacement().GetLeaderId(),
		Replicas: append([]int32{}, resp.GetPlacement().GetReplicas()...), Awaited: append([]int32{}, resp.GetAwaitedBrokerIds()...),
		Ends: []endView{}, DryRun: !accept, Revision: resp.GetRevision(),
	}
	for _, e := range resp.GetEnds() {
		v.Ends = append(v.Ends, endView{e.GetBrokerId(), e.GetLastLeaderEpoch(), e.GetEnd()})
	}
	return p.show(c, v, v.tables()...)
}
