package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func (p *Program) topicAlter() *cobra.Command {
	var req pb.UpdateTopicConfigRequest
	var config []string
	c := &cobra.Command{
		Use: "alter NAME", Short: "Change settings of a topic, all of them or none",
		Long:    "Change settings of a topic, all of them or none.\n\n" + configHelp(),
		Example: "  millstream topic alter orders --config retention.ms=86400000 --reset segment.bytes",
		Args:    takes("NAME"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			req.Topic = args[0]
			if req.Set, err = parseConfig(c, config); err != nil {
				return err
			}
			if len(req.Set) == 0 && len(req.Reset_) == 0 {
				return misuse(c, "nothing to change: give --config KEY=VALUE or --reset KEY")
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			resp, err := call(p, c, topics, pb.TopicServiceClient.UpdateTopicConfig, &req)
			if err != nil {
				return err
			}
			v := newTopicView(resp.GetTopic())
			return p.show(c, v, topicTable(v))
		},
	}
	c.Flags().StringArrayVar(&config, "config", nil, "`KEY=VALUE` to set; may be repeated")
	c.Flags().StringArrayVar(&req.Reset_, "reset", nil, "`KEY` to put back to its default; may be repeated")
	c.Flags().BoolVar(&req.ValidateOnly, "validate-only", false, "check only, change nothing")
	return c
}

func (p *Program) topicDelete() *cobra.Command {
	var req pb.DeleteTopicRequest
	c := &cobra.Command{
		Use: "delete NAME", Short: "Delete a topic and its records", Aliases: []string{"rm"},
		Long: "Delete a topic and its records. Its files are kept for 24 hours in the trash of each broker, unless --now.",
		Args: takes("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			req.Topic = args[0]
			if err := p.checkOutput(c); err != nil {
				return err
			}
			resp, err := call(p, c, topics, pb.TopicServiceClient.DeleteTopic, &req)
			if err != nil {
				return err
			}
			t := &table{header: []string{"DELETED", "REVISION"}}
			t.add(req.Topic, resp.GetRevision())
			return p.show(c, struct {
				Topic    string `json:"topic"`
				Revision int64  `json:"revision"`
			}{req.Topic, resp.GetRevision()}, t)
		},
	}
	c.Flags().BoolVar(&req.Now, "now", false, "remove the files at once instead of keeping them in the trash")
	return c
}

// trimmed is the new start of a partition.
type trimmed struct {
	Topic     string `json:"topic"`
	Partition uint32 `json:"partition"`
	Start     int64  `json:"start"`
}

func (p *Program) topicTrim() *cobra.Command {
	var partition uint32
	var before string
	c := &cobra.Command{
		Use: "trim NAME --before WHERE", Short: "Delete the records before an offset",
		Long: `Delete the records before an offset. WHERE is an offset, -N for all but the
last N, latest for all, or @TIME (RFC 3339) for all that is older. Files shrink
by whole segments, later.`,
		Example: `  millstream topic trim orders --partition 0 --before 1200
  millstream topic trim orders --before @2026-01-31T00:00:00Z`,
		Args: takes("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if before == "" {
				return misuse(c, "--before is missing")
			}
			at, err := parsePosition(before)
			if err != nil {
				return misuse(c, "--before %v", err)
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			var only *uint32
			if c.Flags().Changed("partition") {
				only = &partition
			}
			return p.trim(c, args[0], only, at)
		},
	}
	c.Flags().Uint32Var(&partition, "partition", 0, "partition; all of them unless given")
	c.Flags().StringVar(&before, "before", "", "the first offset to keep: `OFFSET`, -N, latest or @RFC3339")
	return c
}

func (p *Program) trim(c *cobra.Command, topic string, only *uint32, at position) error {
	ends, err := p.offsets(c, topic, only, at)
	if err != nil {
		return err
	}
	out := []trimmed{}
	t := &table{header: []string{"TOPIC", "PARTITION", "START"}}
	for _, o := range ends {
		resp, err := call(p, c, topics, pb.TopicServiceClient.DeleteRecords, &pb.DeleteRecordsRequest{
			Topic: topic, Partition: o.partition, BeforeOffset: &o.offset,
		})
		if err != nil {
			return fmt.Errorf("partition %d: %w", o.partition, err)
		}
		out = append(out, trimmed{topic, o.partition, resp.GetLogStart()})
		t.add(topic, o.partition, resp.GetLogStart())
	}
	return p.show(c, out, t)
}
