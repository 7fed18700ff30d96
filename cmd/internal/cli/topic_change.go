package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
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
by whole segments, later. Nothing is changed unless every partition has the
offset; if one fails after that, exit code 1, the error says which are trimmed.`,
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

// trim trims partitions one by one, once it has seen that all of them can be.
func (p *Program) trim(c *cobra.Command, topic string, only *uint32, at position) error {
	wanted, err := p.offsets(c, topic, only, at)
	if err != nil {
		return err
	}
	if at.place == placeOffset {
		if err := p.checkEnds(c, topic, only, wanted); err != nil {
			return err
		}
	}
	out := []trimmed{}
	t := &table{header: []string{"TOPIC", "PARTITION", "START"}}
	var failed error
	for i, o := range wanted {
		resp, err := call(p, c, topics, pb.TopicServiceClient.DeleteRecords, &pb.DeleteRecordsRequest{
			Topic: topic, Partition: o.partition, BeforeOffset: &o.offset,
		})
		if err != nil {
			failed = &trimError{topic: topic, done: wanted[:i], at: o, left: wanted[i+1:], cause: err}
			break
		}
		out = append(out, trimmed{topic, o.partition, resp.GetLogStart()})
		t.add(topic, o.partition, resp.GetLogStart())
	}
	if failed != nil && len(out) == 0 {
		return failed
	}
	return errors.Join(failed, p.show(c, out, t))
}

// checkEnds refuses an offset that is behind the end of a partition. It names
// all that are too short.
func (p *Program) checkEnds(c *cobra.Command, topic string, only *uint32, wanted []partitionOffset) error {
	ends, err := p.offsets(c, topic, only, position{place: placeLatest})
	if err != nil {
		return err
	}
	end := make(map[uint32]int64, len(ends))
	for _, e := range ends {
		end[e.partition] = e.offset
	}
	var short []string
	for _, o := range wanted {
		if last, ok := end[o.partition]; ok && o.offset > last {
			short = append(short, fmt.Sprintf("partition %d ends at %d", o.partition, last))
		}
	}
	if len(short) == 0 {
		return nil
	}
	return fmt.Errorf("nothing was trimmed: offset %d is behind the end: %s [%s]", wanted[0].offset, atMost(short, maxNamed),
		rpc.ReasonName(pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE))
}

// maxNamed is how many partitions an error names that are too short.
const maxNamed = 10

// atMost joins the first n of the items and says how many more there are.
func atMost(items []string, n int) string {
	if len(items) <= n {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:n], ", "), len(items)-n)
}

// trimError says how far a trim of several partitions came.
type trimError struct {
	topic      string
	done, left []partitionOffset
	at         partitionOffset // failed
	cause      error
}

// Error names every partition.
func (e *trimError) Error() string { return e.describe(e.cause.Error()) }

// Unwrap returns the cause.
func (e *trimError) Unwrap() error { return e.cause }

func (e *trimError) describe(cause string) string {
	failed, not, unknown := []partitionOffset{e.at}, e.left, ""
	if requestErrorOf(e.cause) != nil { // the server refused
		not = append(failed, not...)
	} else {
		unknown = "; not known: " + partitionsOf(failed)
	}
	return fmt.Sprintf("%s/%d: %s; trimmed: %s%s; not trimmed: %s", e.topic, e.at.partition, cause, partitionsOf(e.done), unknown, partitionsOf(not))
}

// partitionsOf lists partitions, those in a row as FIRST-LAST.
func partitionsOf(all []partitionOffset) string {
	var b strings.Builder
	for i := 0; i < len(all); i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		first := all[i].partition
		for i+1 < len(all) && all[i+1].partition == all[i].partition+1 {
			i++
		}
		fmt.Fprint(&b, first)
		if last := all[i].partition; last > first {
			fmt.Fprintf(&b, "-%d", last)
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}
