package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// movesPerCall is how many partitions a server takes at a time.
const movesPerCall = 1_000

// partitionName names a partition: TOPIC/PARTITION.
type partitionName struct {
	topic     string
	partition uint32
}

// String is as it is written on the command line.
func (n partitionName) String() string { return fmt.Sprintf("%s/%d", n.topic, n.partition) }

func parsePartition(c *cobra.Command, arg string) (partitionName, error) {
	topic, number, ok := strings.Cut(arg, "/")
	n, err := strconv.ParseUint(number, 10, 32)
	if !ok || topic == "" || err != nil {
		return partitionName{}, misuse(c, "%q is not TOPIC/PARTITION", arg)
	}
	return partitionName{topic, uint32(n)}, nil
}

// moveView is the move of a partition, as JSON and YAML show it and as a file
// for 'cluster move' has it; of a file only the first three are read.
type moveView struct {
	Topic     string      `json:"topic"`
	Partition uint32      `json:"partition"`
	To        []int32     `json:"to"`
	From      []int32     `json:"from"`
	Adding    []int32     `json:"adding"`
	Leader    int32       `json:"leader"`
	Unchanged bool        `json:"unchanged"`
	Done      bool        `json:"done"` // nothing of it is left to do
	Error     *moveRefuse `json:"error,omitempty"`
}

// moveRefuse is why a move was refused.
type moveRefuse struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// movesView is moves, as JSON and YAML show them.
type movesView struct {
	DryRun         bool       `json:"dry_run"`
	BytesPerSecond uint64     `json:"bytes_per_second"`
	Revision       int64      `json:"revision"`
	Moves          []moveView `json:"moves"`
}

func (v *movesView) add(results []*pb.ReassignmentResult) {
	for _, r := range results {
		p := r.GetPlacement()
		m := moveView{
			Topic: p.GetTopic(), Partition: p.GetPartition(), Leader: p.GetLeaderId(), Unchanged: r.GetUnchanged(),
			To: append([]int32{}, p.GetTargetReplicas()...), Adding: append([]int32{}, p.GetAddingReplicas()...),
			From: append([]int32{}, r.GetReplicasBefore()...),
		}
		if len(m.To) == 0 { // it is there
			m.To = append(m.To, p.GetReplicas()...)
		}
		m.Done = !v.DryRun && len(m.Adding) == 0 && r.GetError() == nil
		if e := r.GetError(); e != nil {
			m.Error = &moveRefuse{rpc.ReasonName(e.GetReason()), describe(e)}
		}
		v.Moves = append(v.Moves, m)
	}
}

func (v *movesView) table() *table {
	t := &table{header: []string{"TOPIC", "PARTITION", "FROM", "TO", "LEADER", "STATE"}}
	for _, m := range v.Moves {
		state := "moving"
		switch {
		case m.Error != nil:
			state = "refused: " + m.Error.Message
		case m.Unchanged:
			state = "unchanged"
		case v.DryRun:
			state = "planned"
		case m.Done:
			state = "done"
		}
		t.add(m.Topic, m.Partition, ids(m.From), ids(m.To), m.Leader, state)
	}
	return t
}

// refused returns an error that says how many were refused; nil: none was.
func (v *movesView) refused() error {
	n := 0
	for _, m := range v.Moves {
		if m.Error != nil {
			n++
		}
	}
	switch {
	case n == 0:
		return nil
	case v.DryRun:
		return errors.New("nothing was changed: " + refusedOf(n, len(v.Moves)))
	default:
		return errors.New(refusedOf(n, len(v.Moves)))
	}
}

// carryOut shows what a change comes to, has it agreed to, does it, and waits
// if that is wanted. The change is not done at all unless every part of it can
// be.
func (p *Program) carryOut(c *cobra.Command, agree consent, w *patienceFlags, change func(dry bool) (*movesView, error)) error {
	plan, err := change(true)
	if err != nil {
		return err
	}
	if err := plan.refused(); err != nil {
		return errors.Join(p.show(c, plan, plan.table()), err)
	}
	if !slices.ContainsFunc(plan.Moves, func(m moveView) bool { return !m.Unchanged }) {
		return p.show(c, plan, plan.table()) // there is nothing to agree to
	}
	if ok, err := p.agreed(c, agree, plan, plan.table()); !ok {
		return err
	}
	did, err := change(false)
	if err != nil {
		return err
	}
	failed := did.refused() // of what has changed since the plan
	if w != nil && w.wait && failed == nil {
		if err := p.awaitMoves(c, *w, did.Moves); err != nil {
			return err
		}
	}
	return errors.Join(p.show(c, did, did.table()), failed)
}

func (p *Program) clusterMove() *cobra.Command {
	var agree consent
	var waits patienceFlags
	var rate uint64
	var file string
	var cancel, all bool
	c := &cobra.Command{
		Use: "move [TOPIC/PARTITION=BROKER,BROKER,…]…", Short: "Move partitions to other brokers, or cancel moves",
		Long: `Move partitions to other brokers. The first broker named is the preferred
leader; there must be as many as the topic has replicas. The replicas that there
are stay until those that are added are in sync. Nothing is begun unless every
partition can be moved. Of a partition that is on its way there already,
--throttle is changed.

With --file moves are read as JSON, as -o json shows them; FILE - is standard
input. With --cancel partitions that are being moved are put back to where they
were: those named, or --all.`,
		Example: `  millstream cluster move orders/0=1,2,3 orders/1=2,3,1 --dry-run
  millstream cluster move orders/0=4,2,3 --yes --wait --throttle 50000000
  millstream cluster rebalance --dry-run -o json | millstream cluster move --file - --yes
  millstream cluster move --cancel orders/0 --yes`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			if err := errors.Join(agree.check(c), waits.check(c)); err != nil {
				return err
			}
			if cancel {
				if file != "" || c.Flags().Changed("throttle") || waits.wait {
					return misuse(c, "--cancel excludes --file, --throttle and --wait")
				}
				return p.cancelMoves(c, agree, args, all)
			}
			if all {
				return misuse(c, "--all needs --cancel")
			}
			moves, err := p.parseMoves(c, args, file)
			if err != nil {
				return err
			}
			return p.carryOut(c, agree, &waits, func(dry bool) (*movesView, error) {
				v := &movesView{DryRun: dry, BytesPerSecond: rate, Moves: []moveView{}}
				for part := range slices.Chunk(moves, movesPerCall) {
					resp, err := call(p, c, cluster, pb.ClusterServiceClient.ReassignPartitions, &pb.ReassignPartitionsRequest{
						Reassignments: part, BytesPerSecond: rate, ValidateOnly: dry,
					})
					if err != nil {
						return nil, err
					}
					v.Revision = resp.GetRevision()
					v.add(resp.GetResults())
				}
				return v, nil
			})
		},
	}
	c.Flags().StringVar(&file, "file", "", "`FILE` with moves as JSON; - is standard input")
	c.Flags().BoolVar(&cancel, "cancel", false, "put the partitions back to where they were")
	c.Flags().BoolVar(&all, "all", false, "with --cancel: all that are being moved")
	throttleFlag(c, &rate)
	agree.flags(c)
	waits.flags(c)
	return c
}

// parseMoves reads moves from arguments or a file.
func (p *Program) parseMoves(c *cobra.Command, args []string, file string) ([]*pb.Reassignment, error) {
	switch {
	case file != "" && len(args) > 0:
		return nil, misuse(c, "name partitions or give --file, not both")
	case file != "":
		return p.readMoves(c, file)
	case len(args) == 0:
		return nil, misuse(c, "TOPIC/PARTITION=BROKER,BROKER,… is missing")
	}
	var moves []*pb.Reassignment
	for _, arg := range args {
		where, brokers, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, misuse(c, "%q is not TOPIC/PARTITION=BROKER,BROKER,…", arg)
		}
		name, err := parsePartition(c, where)
		if err != nil {
			return nil, err
		}
		m := &pb.Reassignment{Topic: name.topic, Partition: name.partition}
		for _, b := range strings.Split(brokers, ",") {
			id, err := strconv.ParseInt(b, 10, 32)
			if err != nil || id < 0 {
				return nil, misuse(c, "%q names a broker %q, which is not a number from 0", arg, b)
			}
			m.Replicas = append(m.Replicas, int32(id))
		}
		moves = append(moves, m)
	}
	return moves, nil
}

// maxMovesFile bounds a file with moves.
const maxMovesFile = 16 << 20

func (p *Program) readMoves(c *cobra.Command, file string) ([]*pb.Reassignment, error) {
	in := p.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer closeQuietly(f)
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxMovesFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxMovesFile {
		return nil, misuse(c, "%s has more than %d bytes", file, maxMovesFile)
	}
	var v movesView
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, misuse(c, "%s: %v", file, err)
	}
	var moves []*pb.Reassignment
	for i, m := range v.Moves {
		if m.Topic == "" || len(m.To) == 0 {
			return nil, misuse(c, "%s: moves[%d] lacks topic or to", file, i)
		}
		moves = append(moves, &pb.Reassignment{Topic: m.Topic, Partition: m.Partition, Replicas: m.To})
	}
	if len(moves) == 0 {
		return nil, misuse(c, "%s has no moves", file)
	}
	return moves, nil
}

// cancelMoves puts partitions back to where they were.
func (p *Program) cancelMoves(c *cobra.Command, agree consent, args []string, all bool) error {
	var names []*pb.PartitionReference
	switch {
	case all && len(args) > 0:
		return misuse(c, "name partitions or give --all, not both")
	case all:
		moves, err := p.reassignments(c)
		if err != nil {
			return err
		}
		for _, m := range moves {
			names = append(names, &pb.PartitionReference{Topic: m.GetPlacement().GetTopic(), Partition: m.GetPlacement().GetPartition()})
		}
	case len(args) == 0:
		return misuse(c, "TOPIC/PARTITION or --all is missing")
	}
	for _, arg := range args {
		name, err := parsePartition(c, arg)
		if err != nil {
			return err
		}
		names = append(names, &pb.PartitionReference{Topic: name.topic, Partition: name.partition})
	}
	return p.carryOut(c, agree, nil, func(dry bool) (*movesView, error) {
		v := &movesView{DryRun: dry, Moves: []moveView{}}
		for part := range slices.Chunk(names, movesPerCall) {
			resp, err := call(p, c, cluster, pb.ClusterServiceClient.CancelReassignments, &pb.CancelReassignmentsRequest{Partitions: part, ValidateOnly: dry})
			if err != nil {
				return nil, err
			}
			v.Revision = resp.GetRevision()
			v.add(resp.GetResults())
		}
		return v, nil
	})
}
