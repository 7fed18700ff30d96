package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// statusView is how the cluster is, as JSON and YAML show it.
type statusView struct {
	Healthy          bool          `json:"healthy"`
	ActiveController int32         `json:"active_controller_id"`
	Brokers          uint32        `json:"broker_count"`
	ActiveBrokers    uint32        `json:"active_broker_count"`
	ImpairedBrokers  uint32        `json:"impaired_broker_count"`
	Topics           uint32        `json:"topic_count"`
	Partitions       uint32        `json:"partition_count"`
	Offline          uint32        `json:"offline_partition_count"`
	UnderReplicated  uint32        `json:"under_replicated_partition_count"`
	UnderMinInsync   uint32        `json:"under_min_insync_partition_count"`
	Reassigning      uint32        `json:"reassigning_partition_count"`
	Revision         int64         `json:"revision"`
	BrokersOff       []brokerView  `json:"brokers_not_active"`
	OfflineList      []offlineView `json:"offline_partitions"`
	Moves            []ongoingView `json:"reassignments"`
}

// offlineView is a partition that nobody leads, as JSON and YAML show it.
type offlineView struct {
	Topic     string  `json:"topic"`
	Partition uint32  `json:"partition"`
	Awaited   []int32 `json:"awaited_broker_ids"`
}

// ongoingView is a partition that is being moved, as JSON and YAML show it.
type ongoingView struct {
	Topic          string  `json:"topic"`
	Partition      uint32  `json:"partition"`
	Leader         int32   `json:"leader"`
	Replicas       []int32 `json:"replicas"`
	InSync         []int32 `json:"in_sync_replicas"`
	To             []int32 `json:"to"`
	Awaited        []int32 `json:"awaited_broker_ids"`
	BytesPerSecond uint64  `json:"bytes_per_second"`
	// RecordsLeft and BytesLeft are of all replicas that are filled; null: the
	// leader has not said.
	RecordsLeft *int64 `json:"records_left"`
	BytesLeft   *int64 `json:"bytes_left"`
}

// left says what replicas still lack, for people.
func (m *ongoingView) left() string {
	if m.BytesLeft == nil {
		return "-"
	}
	return fmt.Sprintf("%d B", *m.BytesLeft)
}

// troubles says what is not as it should be.
func (v *statusView) troubles() []string {
	var all []string
	add := func(n uint32, one, many string) {
		if n > 0 {
			all = append(all, counted(n, one, many))
		}
	}
	add(v.Brokers-v.ActiveBrokers, "broker is not active", "brokers are not active")
	add(v.ImpairedBrokers, "broker has a disk that is slow, full or failing", "brokers have disks that are slow, full or failing")
	add(v.Offline, "partition has no leader", "partitions have no leader")
	add(v.UnderMinInsync, "partition takes no writes of acks all", "partitions take no writes of acks all")
	add(v.UnderReplicated, "partition has replicas that are not in sync", "partitions have replicas that are not in sync")
	if v.ActiveController < 0 {
		all = append(all, "no active controller is known")
	}
	return all
}

func (p *Program) clusterStatus() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use: "status", Short: "Show what is not as it should be, and what is being moved",
		Long: `Show what is not as it should be: brokers that are not active, or whose disks are
slow, full or failing, so that others lead; partitions that nobody leads and whom
they wait for, partitions whose replicas are not in sync; and which partitions are being moved. With --check the command fails unless all
is well: wait for that before the next broker is restarted.`,
		Example: "  millstream cluster status\n  millstream cluster status --check",
		Args:    takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			r, err := call(p, c, cluster, pb.ClusterServiceClient.DescribeCluster, &pb.DescribeClusterRequest{})
			if err != nil {
				return err
			}
			v := newStatusView(r)
			// What the controller alone knows may not be there to be had.
			failed := errors.Join(p.listOffline(c, v), p.listMoves(c, v))
			v.Healthy = failed == nil && len(v.troubles()) == 0
			if err := errors.Join(failed, p.show(c, v, v.tables()...)); err != nil || !check || v.Healthy {
				return err
			}
			return errors.New(strings.Join(v.troubles(), ", "))
		},
	}
	c.Flags().BoolVar(&check, "check", false, "fail unless all is well")
	return c
}

func newStatusView(r *pb.DescribeClusterResponse) *statusView {
	v := &statusView{
		ActiveController: r.GetActiveControllerId(), Brokers: uint32(len(r.GetBrokers())), Topics: r.GetTopicCount(),
		Partitions: r.GetPartitionCount(), Offline: r.GetOfflinePartitionCount(), UnderReplicated: r.GetUnderReplicatedPartitionCount(),
		UnderMinInsync: r.GetUnderMinInsyncPartitionCount(), Reassigning: r.GetReassigningPartitionCount(), Revision: r.GetRevision(),
		BrokersOff: []brokerView{}, OfflineList: []offlineView{}, Moves: []ongoingView{},
	}
	for _, b := range r.GetBrokers() {
		if b.GetState() == pb.BrokerState_BROKER_STATE_ACTIVE {
			v.ActiveBrokers++
		}
		impaired := b.GetImpairment() != pb.BrokerImpairment_BROKER_IMPAIRMENT_UNSPECIFIED
		if impaired {
			v.ImpairedBrokers++
		}
		if b.GetState() != pb.BrokerState_BROKER_STATE_ACTIVE || b.GetDraining() || impaired {
			v.BrokersOff = append(v.BrokersOff, newBrokerView(b))
		}
	}
	return v
}

func (p *Program) listOffline(c *cobra.Command, v *statusView) error {
	req := &pb.ListOfflinePartitionsRequest{}
	for {
		resp, err := call(p, c, cluster, pb.ClusterServiceClient.ListOfflinePartitions, req)
		if err != nil {
			return err
		}
		for _, o := range resp.GetPartitions() {
			v.OfflineList = append(v.OfflineList, offlineView{o.GetTopic(), o.GetPartition(), append([]int32{}, o.GetAwaitedBrokerIds()...)})
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return nil
		}
	}
}

func (p *Program) listMoves(c *cobra.Command, v *statusView) error {
	all, err := p.reassignments(c)
	for _, m := range all {
		at := m.GetPlacement()
		view := ongoingView{
			Topic: at.GetTopic(), Partition: at.GetPartition(), Leader: at.GetLeaderId(), Replicas: append([]int32{}, at.GetReplicas()...),
			InSync: append([]int32{}, at.GetInSyncReplicas()...), To: append([]int32{}, at.GetTargetReplicas()...),
			Awaited: append([]int32{}, m.GetAwaitedBrokerIds()...), BytesPerSecond: at.GetBytesPerSecond(),
		}
		if len(m.GetProgress()) > 0 {
			view.RecordsLeft, view.BytesLeft = new(int64), new(int64)
		}
		for _, p := range m.GetProgress() {
			*view.RecordsLeft += p.GetRecordsLeft()
			*view.BytesLeft += p.GetBytesLeft()
		}
		v.Moves = append(v.Moves, view)
	}
	return err
}

// tables has those that say something.
func (v *statusView) tables() []*table {
	whole := &table{header: []string{"CONTROLLER", "BROKERS", "ACTIVE", "TOPICS", "PARTITIONS", "OFFLINE", "UNDER-MIN-ISR", "UNDER-REPLICATED", "MOVING"}}
	whole.add(v.ActiveController, v.Brokers, v.ActiveBrokers, v.Topics, v.Partitions, v.Offline, v.UnderMinInsync, v.UnderReplicated, v.Reassigning)
	all := []*table{whole}
	if len(v.BrokersOff) > 0 {
		t := &table{header: []string{"BROKER", "STATE", "LEADERS", "REPLICAS", "NOT-IN-SYNC"}}
		for _, b := range v.BrokersOff {
			t.add(b.BrokerID, b.standing(), b.LeaderCount, b.ReplicaCount, b.OutOfSyncCount)
		}
		all = append(all, t)
	}
	if len(v.OfflineList) > 0 {
		t := &table{header: []string{"OFFLINE", "WAITS-FOR"}}
		for _, o := range v.OfflineList {
			waits := brokersNamed(o.Awaited)
			if len(o.Awaited) == 0 {
				waits = "cluster recover"
			}
			t.add(partitionName{o.Topic, o.Partition}, waits)
		}
		all = append(all, t)
	}
	if len(v.Moves) > 0 {
		t := &table{header: []string{"MOVING", "REPLICAS", "IN-SYNC", "TO", "WAITS-FOR", "LEFT", "THROTTLE"}}
		for i := range v.Moves {
			m := &v.Moves[i]
			t.add(partitionName{m.Topic, m.Partition}, ids(m.Replicas), ids(m.InSync), ids(m.To), ids(m.Awaited), m.left(), throttle(m.BytesPerSecond))
		}
		all = append(all, t)
	}
	return all
}
