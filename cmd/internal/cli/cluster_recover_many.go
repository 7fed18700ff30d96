package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// bulk says which partitions are recovered, if not one.
type bulk struct {
	topics []string
	all    bool
	gone   []string
	lost   []int32 // gone, read by check
}

func (b *bulk) flags(c *cobra.Command) {
	c.Flags().StringSliceVar(&b.topics, "topic", nil, "all partitions of these `topics` that nobody leads")
	c.Flags().BoolVar(&b.all, "all", false, "all partitions that nobody leads")
	c.Flags().StringSliceVar(&b.gone, "lost", nil, "`brokers` whose logs will not come back, by number; with --topic or --all")
}

func (b *bulk) wanted() bool { return b.all || len(b.topics) > 0 }

func (b *bulk) check(c *cobra.Command, args []string) error {
	ways := len(args)
	if b.all {
		ways++
	}
	if len(b.topics) > 0 {
		ways++
	}
	switch {
	case ways != 1:
		return misuse(c, "name one partition as TOPIC/PARTITION, or topics with --topic, or give --all")
	case len(b.gone) > 0 && len(args) > 0:
		return misuse(c, "--lost goes with --topic or --all")
	}
	for _, g := range b.gone {
		id, err := brokerArg(c, g)
		if err != nil {
			return err
		}
		b.lost = append(b.lost, id)
	}
	return nil
}

// recoveriesView is what comes, or would come, of many recoveries, as JSON and
// YAML show it.
type recoveriesView struct {
	Partitions []recoveredView `json:"partitions"`
	DryRun     bool            `json:"dry_run"`
	Revision   int64           `json:"revision"`
}

// recoveredView is one of them.
type recoveredView struct {
	Topic     string `json:"topic"`
	Partition uint32 `json:"partition"`
	// Leader is -1 where it was refused.
	Leader int32 `json:"leader"`
	// End is where its log ends; nil: it has not said.
	End *int64 `json:"end"`
	// More are the ends of replicas that have more than the leader and do not
	// serve: that much is lost.
	More []endView `json:"more"`
	// Unknown are brokers that may have more and have not said.
	Unknown []int32     `json:"unknown_broker_ids"`
	Error   *moveRefuse `json:"error,omitempty"`
}

func newRecoveredView(o offlineView, r *pb.RecoverPartitionResponse) recoveredView {
	v := recoveredView{Topic: o.Topic, Partition: o.Partition, Leader: r.GetPlacement().GetLeaderId(), More: []endView{}, Unknown: []int32{}}
	var own *pb.ReplicaEnd
	said := map[int32]bool{}
	for _, e := range r.GetEnds() {
		said[e.GetBrokerId()] = true
		if e.GetBrokerId() == v.Leader {
			own = e
			end := e.GetEnd()
			v.End = &end
		}
	}
	for _, e := range r.GetEnds() {
		more := e.GetLastLeaderEpoch() > own.GetLastLeaderEpoch() || e.GetLastLeaderEpoch() == own.GetLastLeaderEpoch() && e.GetEnd() > own.GetEnd()
		if e.GetBrokerId() != v.Leader && more {
			v.More = append(v.More, endView{e.GetBrokerId(), e.GetLastLeaderEpoch(), e.GetEnd()})
		}
	}
	for _, id := range r.GetAwaitedBrokerIds() {
		if id != v.Leader && !said[id] {
			v.Unknown = append(v.Unknown, id)
		}
	}
	return v
}

// loss says for people what is lost.
func (v *recoveredView) loss() string {
	var parts []string
	for _, e := range v.More {
		parts = append(parts, fmt.Sprintf("what broker %d has, to %d", e.BrokerID, e.End))
	}
	if len(v.Unknown) > 0 {
		parts = append(parts, "unknown: "+brokersNamed(v.Unknown))
	}
	if len(parts) == 0 {
		return "nothing known"
	}
	return strings.Join(parts, "; ")
}

func (v *recoveriesView) table() *table {
	t := &table{header: []string{"PARTITION", "LEADER", "ITS-END", "LOST", "STATE"}}
	if v.DryRun {
		t.header[1] = "WOULD-LEAD"
	}
	for i := range v.Partitions {
		r := &v.Partitions[i]
		name := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
		switch {
		case r.Error != nil:
			t.add(name, "-", "-", "-", "refused: "+r.Error.Message)
			continue
		case r.End == nil:
			t.add(name, r.Leader, "unknown", r.loss(), v.state())
		default:
			t.add(name, r.Leader, *r.End, r.loss(), v.state())
		}
	}
	return t
}

func (v *recoveriesView) state() string {
	if v.DryRun {
		return "planned"
	}
	return "recovered"
}

// refused returns an error that says how many were refused; nil: none was.
func (v *recoveriesView) refused() error {
	n := 0
	for i := range v.Partitions {
		if v.Partitions[i].Error != nil {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return errors.New(refusedOf(n, len(v.Partitions)))
}

// recoverMany recovers the partitions that nobody leads, one after the other,
// or looks. One that is refused keeps none of the others.
func (p *Program) recoverMany(c *cobra.Command, b *bulk, accept bool) error {
	var status statusView
	if err := p.listOffline(c, &status); err != nil {
		return err
	}
	conn, err := p.dial()
	if err != nil {
		return err
	}
	defer closeQuietly(conn)
	v := &recoveriesView{Partitions: []recoveredView{}, DryRun: !accept}
	for _, o := range status.OfflineList {
		if !b.all && !slices.Contains(b.topics, o.Topic) {
			continue
		}
		resp, err := recoverLost(c.Context(), conn, o, b.lost, accept)
		e := requestErrorOf(err)
		switch {
		case err == nil:
			v.Partitions = append(v.Partitions, newRecoveredView(o, resp))
			v.Revision = max(v.Revision, resp.GetRevision())
		case e.GetReason() == pb.ErrorReason_ERROR_REASON_PARTITION_NOT_OFFLINE:
			// It has come back by itself meanwhile.
		case e != nil && !e.GetRetryable():
			v.Partitions = append(v.Partitions, recoveredView{
				Topic: o.Topic, Partition: o.Partition, Leader: -1, More: []endView{}, Unknown: []int32{},
				Error: &moveRefuse{rpc.ReasonName(e.GetReason()), describe(e)},
			})
		default: // nobody decides any more; what was done is shown
			return errors.Join(p.show(c, v, v.table()), fmt.Errorf("%s/%d: %w", o.Topic, o.Partition, err))
		}
	}
	return errors.Join(p.show(c, v, v.table()), v.refused())
}

func recoverLost(ctx context.Context, conn grpc.ClientConnInterface, o offlineView, lost []int32, accept bool) (*pb.RecoverPartitionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return cluster(conn).RecoverPartition(ctx, &pb.RecoverPartitionRequest{
		Topic: o.Topic, Partition: o.Partition, AcceptLoss: accept, ValidateOnly: !accept, OnlyIfLost: true, LostBrokerIds: lost,
	})
}
