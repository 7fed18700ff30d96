package cli

import (
	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func (p *Program) topicAddPartitions() *cobra.Command {
	var req pb.CreatePartitionsRequest
	c := &cobra.Command{
		Use: "add-partitions NAME --partitions COUNT", Short: "Give a topic more partitions",
		Long: `Give a topic more partitions: COUNT is how many it shall have in all. It cannot
be undone. Keys belong to other partitions afterwards: new records of a key may
go elsewhere than those before, so their order is kept within each partition
only.`,
		Example: `  millstream topic add-partitions orders --partitions 12 --dry-run
  millstream topic add-partitions orders --partitions 12`,
		Args: takes("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			req.Topic = args[0]
			if req.GetPartitionCount() == 0 {
				return misuse(c, "--partitions is missing: how many the topic shall have in all")
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			resp, err := call(p, c, topics, pb.TopicServiceClient.CreatePartitions, &req)
			if err != nil {
				return err
			}
			v := newTopicView(resp.GetTopic())
			return p.show(c, v, topicTable(v))
		},
	}
	c.Flags().Uint32Var(&req.PartitionCount, "partitions", 0, "`COUNT` of partitions that it shall have in all, up to 10,000")
	c.Flags().BoolVar(&req.ValidateOnly, "dry-run", false, "check only, change nothing")
	return c
}
