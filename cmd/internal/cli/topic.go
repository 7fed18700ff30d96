package cli

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

func (p *Program) topicCommand() *cobra.Command {
	return group("topic", "Create, list, describe, change and delete topics",
		p.topicCreate(), p.topicList(), p.topicDescribe(), p.topicAlter(), p.topicAddPartitions(), p.topicDelete(), p.topicTrim())
}

// topicView is a topic as JSON and YAML show it.
type topicView struct {
	Topic             string            `json:"topic"`
	TopicID           string            `json:"topic_id"`
	PartitionCount    uint32            `json:"partition_count"`
	ReplicationFactor uint32            `json:"replication_factor"`
	CreateTime        string            `json:"create_time"`
	Revision          int64             `json:"revision"`
	Config            map[string]string `json:"config"`
	ConfigSet         []string          `json:"config_set"`
	Partitions        []partitionView   `json:"partitions,omitempty"`
}

// partitionView is a partition as JSON and YAML show it.
type partitionView struct {
	Partition      uint32  `json:"partition"`
	Leader         int32   `json:"leader"`
	LeaderAddress  string  `json:"leader_address"`
	LeaderEpoch    int32   `json:"leader_epoch"`
	Start          *int64  `json:"start"`
	End            *int64  `json:"end"`
	Bytes          int64   `json:"bytes"`
	Segments       uint32  `json:"segments"`
	Replicas       []int32 `json:"replicas"`
	InSyncReplicas []int32 `json:"in_sync_replicas"`
	PartitionEpoch int32   `json:"partition_epoch"`
	Eligible       []int32 `json:"eligible_leader_replicas"`
	LastKnown      []int32 `json:"last_known_replicas"`
	Target         []int32 `json:"target_replicas"`
	Adding         []int32 `json:"adding_replicas"`
	MinInSync      uint32  `json:"min_insync_replicas"`
	OfflineReason  string  `json:"offline_reason,omitempty"`
}

func newTopicView(t *pb.Topic) topicView {
	set := slices.Clone(t.GetConfigSet())
	slices.Sort(set)
	return topicView{
		Topic: t.GetTopic(), TopicID: hex.EncodeToString(t.GetTopicId()),
		PartitionCount: t.GetPartitionCount(), ReplicationFactor: t.GetReplicationFactor(),
		CreateTime: t.GetCreateTime().AsTime().Format(time.RFC3339Nano), Revision: t.GetRevision(),
		Config: t.GetConfig(), ConfigSet: append([]string{}, set...),
	}
}

func newPartitionView(p *pb.Partition) partitionView {
	return partitionView{
		Partition: p.GetPartition(), Leader: p.GetLeader().GetBrokerId(), LeaderAddress: p.GetLeader().GetAddress(),
		LeaderEpoch: p.GetLeader().GetLeaderEpoch(), Start: p.Start, End: p.End, Bytes: p.GetBytes(), Segments: p.GetSegments(),
		Replicas: append([]int32{}, p.GetReplicas()...), InSyncReplicas: append([]int32{}, p.GetInSyncReplicas()...),
		PartitionEpoch: p.GetPartitionEpoch(), Eligible: append([]int32{}, p.GetEligibleLeaderReplicas()...),
		LastKnown: append([]int32{}, p.GetLastKnownReplicas()...), Target: append([]int32{}, p.GetTargetReplicas()...),
		Adding: append([]int32{}, p.GetAddingReplicas()...), MinInSync: p.GetMinInsyncReplicas(), OfflineReason: p.GetOfflineReason(),
	}
}

func topicTable(topics ...topicView) *table {
	t := &table{header: []string{"TOPIC", "PARTITIONS", "REPLICAS", "CREATED", "SET"}}
	for _, v := range topics {
		set := make([]string, len(v.ConfigSet))
		for i, name := range v.ConfigSet {
			set[i] = name + "=" + v.Config[name]
		}
		t.add(v.Topic, v.PartitionCount, v.ReplicationFactor, v.CreateTime, strings.Join(set, " "))
	}
	return t
}

// configHelp lists the settings of a topic with their defaults.
func configHelp() string {
	var b strings.Builder
	b.WriteString("Settings of a topic, with their defaults:\n")
	for _, e := range topicconfig.Entries() {
		fmt.Fprintf(&b, "  %-24s %-12s %s\n", e.Name, e.Default, e.Meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// parseConfig reads KEY=VALUE pairs.
func parseConfig(c *cobra.Command, pairs []string) (map[string]string, error) {
	m := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, misuse(c, "--config %q is not KEY=VALUE", pair)
		}
		if _, twice := m[key]; twice {
			return nil, misuse(c, "--config %s is there twice", key)
		}
		m[key] = value
	}
	return m, nil
}

func (p *Program) topicCreate() *cobra.Command {
	var req pb.CreateTopicRequest
	var config []string
	c := &cobra.Command{
		Use: "create NAME", Short: "Create a topic",
		Long: "Create a topic. It can be used when the command returns.\n\n" + configHelp(),
		Example: `  millstream topic create orders --partitions 3
  millstream topic create metrics --config durability=memory --config retention.ms=3600000`,
		Args: takes("NAME"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			req.Topic = args[0]
			if req.Config, err = parseConfig(c, config); err != nil {
				return err
			}
			if c.Flags().Changed("partitions") && req.PartitionCount == 0 {
				return misuse(c, "--partitions must be at least 1")
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			resp, err := call(p, c, topics, pb.TopicServiceClient.CreateTopic, &req)
			if err != nil {
				return err
			}
			v := newTopicView(resp.GetTopic())
			return p.show(c, v, topicTable(v))
		},
	}
	c.Flags().Uint32Var(&req.PartitionCount, "partitions", 1, "number of partitions, 1 to 10,000")
	c.Flags().Uint32Var(&req.ReplicationFactor, "replication-factor", 0, "replicas of each partition; 0: 3, or as many as there are brokers")
	c.Flags().StringArrayVar(&config, "config", nil, "`KEY=VALUE` of a setting; may be repeated")
	c.Flags().BoolVar(&req.ValidateOnly, "validate-only", false, "check only, create nothing")
	return c
}

func topics(conn grpc.ClientConnInterface) pb.TopicServiceClient {
	return pb.NewTopicServiceClient(conn)
}

func (p *Program) topicList() *cobra.Command {
	var req pb.ListTopicsRequest
	c := &cobra.Command{
		Use: "list", Short: "List topics", Aliases: []string{"ls"}, Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			views := []topicView{}
			for {
				resp, err := call(p, c, topics, pb.TopicServiceClient.ListTopics, &req)
				if err != nil {
					return err
				}
				for _, t := range resp.GetTopics() {
					views = append(views, newTopicView(t))
				}
				if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
					return p.show(c, views, topicTable(views...))
				}
			}
		},
	}
	c.Flags().StringVar(&req.Prefix, "prefix", "", "only topics whose names begin so")
	c.Flags().BoolVar(&req.IncludeInternal, "internal", false, "the system's topics too")
	return c
}

func (p *Program) topicDescribe() *cobra.Command {
	return &cobra.Command{
		Use: "describe NAME", Short: "Show a topic, its partitions and its settings", Args: takes("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			resp, err := call(p, c, topics, pb.TopicServiceClient.GetTopic, &pb.GetTopicRequest{Topic: args[0]})
			if err != nil {
				return err
			}
			v := newTopicView(resp.GetTopic())
			parts := &table{header: []string{"PARTITION", "LEADER", "EPOCH", "START", "END", "BYTES", "SEGMENTS", "REPLICAS", "IN-SYNC", "MIN-ISR", "ELIGIBLE", "MOVING-TO", "STATE"}}
			for _, part := range resp.GetPartitions() {
				pv := newPartitionView(part)
				v.Partitions = append(v.Partitions, pv)
				state := "online"
				if pv.OfflineReason != "" {
					state = "offline: " + pv.OfflineReason
				}
				parts.add(pv.Partition, pv.Leader, pv.LeaderEpoch, orDash(pv.Start), orDash(pv.End), pv.Bytes, pv.Segments,
					ids(pv.Replicas), ids(pv.InSyncReplicas), pv.MinInSync, ids(pv.Eligible), ids(pv.Target), state)
			}
			settings := &table{header: []string{"SETTING", "VALUE", "SET"}}
			for _, name := range slices.Sorted(maps.Keys(v.Config)) {
				set := "default"
				if slices.Contains(v.ConfigSet, name) {
					set = "topic"
				}
				settings.add(name, v.Config[name], set)
			}
			return p.show(c, v, topicTable(v), parts, settings)
		},
	}
}

func orDash(n *int64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func ids(ns []int32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ns), " ", ","), "[]")
}
