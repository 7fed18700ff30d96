package cli

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func (p *Program) clusterCommand() *cobra.Command {
	return group("cluster", "Look at the cluster, and change which brokers hold what", p.clusterStatus(), p.clusterDescribe(),
		p.clusterDrain(), p.clusterUndrain(), p.clusterRemove(), p.clusterRebalance(), p.clusterMove(), p.clusterRecover(), p.clusterOrphans(),
		p.clusterControllers(), p.clusterBackup(), p.clusterRestore())
}

func cluster(conn grpc.ClientConnInterface) pb.ClusterServiceClient {
	return pb.NewClusterServiceClient(conn)
}

// clusterView is the cluster as JSON and YAML show it.
type clusterView struct {
	ClusterID         string       `json:"cluster_id"`
	Generation        uint32       `json:"cluster_generation"`
	Version           string       `json:"version"`
	ActiveController  int32        `json:"active_controller_id"`
	AnsweringBrokerID int32        `json:"answering_broker_id"`
	TopicCount        uint32       `json:"topic_count"`
	PartitionCount    uint32       `json:"partition_count"`
	Revision          int64        `json:"revision"`
	Brokers           []brokerView `json:"brokers"`
}

// brokerView is a broker as JSON and YAML show it.
type brokerView struct {
	BrokerID     int32  `json:"broker_id"`
	Address      string `json:"address"`
	State        string `json:"state"`
	BrokerEpoch  int64  `json:"broker_epoch"`
	Rack         string `json:"rack"`
	Version      string `json:"version"`
	RegisterTime string `json:"register_time"`
	LeaderCount  uint32 `json:"leader_count"`
	ReplicaCount uint32 `json:"replica_count"`
	// OutOfSyncCount is of the replicas.
	OutOfSyncCount      uint32 `json:"out_of_sync_replica_count"`
	Draining            bool   `json:"draining"`
	DrainBytesPerSecond uint64 `json:"drain_bytes_per_second"`
	// Impairment is what is the matter with its disk; "": nothing.
	Impairment string `json:"impairment"`
}

// standing says the state of a broker in a word for people.
func (v brokerView) standing() string {
	words := v.State
	if v.Draining {
		words += ",draining"
	}
	if v.Impairment != "" {
		words += "," + strings.ReplaceAll(v.Impairment, "_", "-")
	}
	return words
}

func (p *Program) clusterDescribe() *cobra.Command {
	return &cobra.Command{
		Use: "describe", Short: "Show the cluster and its brokers", Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			r, err := call(p, c, cluster, pb.ClusterServiceClient.DescribeCluster, &pb.DescribeClusterRequest{})
			if err != nil {
				return err
			}
			v := clusterView{
				ClusterID: hex.EncodeToString(r.GetClusterId()), Generation: r.GetClusterGeneration(), Version: r.GetVersion(),
				ActiveController: r.GetActiveControllerId(), AnsweringBrokerID: r.GetAnsweringBrokerId(),
				TopicCount: r.GetTopicCount(), PartitionCount: r.GetPartitionCount(), Revision: r.GetRevision(),
				Brokers: []brokerView{},
			}
			whole := &table{header: []string{"CLUSTER", "GENERATION", "VERSION", "CONTROLLER", "TOPICS", "PARTITIONS", "REVISION"}}
			whole.add(v.ClusterID, v.Generation, v.Version, v.ActiveController, v.TopicCount, v.PartitionCount, v.Revision)
			brokers := &table{header: []string{"BROKER", "ADDRESS", "STATE", "EPOCH", "RACK", "VERSION", "LEADERS", "REPLICAS", "NOT-IN-SYNC", "REGISTERED"}}
			for _, b := range r.GetBrokers() {
				bv := newBrokerView(b)
				v.Brokers = append(v.Brokers, bv)
				brokers.add(bv.BrokerID, bv.Address, bv.standing(), bv.BrokerEpoch, bv.Rack, bv.Version, bv.LeaderCount, bv.ReplicaCount, bv.OutOfSyncCount, bv.RegisterTime)
			}
			return p.show(c, v, whole, brokers)
		},
	}
}

func newBrokerView(b *pb.Broker) brokerView {
	impairment := ""
	if i := b.GetImpairment(); i != pb.BrokerImpairment_BROKER_IMPAIRMENT_UNSPECIFIED {
		impairment = strings.ToLower(strings.TrimPrefix(i.String(), "BROKER_IMPAIRMENT_"))
	}
	return brokerView{
		Impairment: impairment,
		BrokerID:   b.GetBrokerId(), Address: b.GetAddress(),
		State:       strings.ToLower(strings.TrimPrefix(b.GetState().String(), "BROKER_STATE_")),
		BrokerEpoch: b.GetBrokerEpoch(), Rack: b.GetRack(), Version: b.GetVersion(),
		RegisterTime: b.GetRegisterTime().AsTime().Format(time.RFC3339), LeaderCount: b.GetLeaderCount(), ReplicaCount: b.GetReplicaCount(),
		OutOfSyncCount: b.GetOutOfSyncReplicaCount(), Draining: b.GetDraining(), DrainBytesPerSecond: b.GetDrainBytesPerSecond(),
	}
}

// orphanView is an orphan as JSON and YAML show it.
type orphanView struct {
	BrokerID  int32  `json:"broker_id"`
	Directory string `json:"directory"`
	TopicID   string `json:"topic_id"`
	Partition uint32 `json:"partition"`
	Bytes     int64  `json:"bytes"`
	Trash     bool   `json:"trash"`
}

func (p *Program) clusterOrphans() *cobra.Command {
	return &cobra.Command{
		Use: "orphans", Short: "List directories of partitions on a broker that the metadata does not know",
		Long: `List directories of partitions that the broker of --addr holds and the metadata
does not know: ask every broker. They are kept: only a recorded deletion deletes. Those in the trash go
24 hours after their topic was deleted.`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			r, err := call(p, c, cluster, pb.ClusterServiceClient.ListOrphans, &pb.ListOrphansRequest{})
			if err != nil {
				return err
			}
			views := []orphanView{}
			t := &table{header: []string{"BROKER", "DIRECTORY", "TOPIC-ID", "PARTITION", "BYTES", "TRASH"}}
			for _, o := range r.GetOrphans() {
				v := orphanView{o.GetBrokerId(), o.GetDirectory(), hex.EncodeToString(o.GetTopicId()), o.GetPartition(), o.GetBytes(), o.GetTrash()}
				views = append(views, v)
				t.add(v.BrokerID, v.Directory, v.TopicID, v.Partition, v.Bytes, v.Trash)
			}
			return p.show(c, views, t)
		},
	}
}
