package cli

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millstream-io/millstream/cmd/internal/bench"
)

func (p *Program) benchCommand() *cobra.Command {
	c := group("bench", "Measure a running cluster through the Go client",
		p.benchRun("produce", "Append records as fast as they are acknowledged, or at --rate", bench.RunProduce),
		p.benchRun("consume", "Read --records records from the earliest on", bench.RunConsume),
		p.benchRun("latency", "Time records from the hand-over to a producer until a reader has them", bench.RunLatency),
	)
	c.Long = `Measure a running cluster through the Go client, record by record. A topic that
does not exist is created. A run that began prints one JSON object, and nothing
else, however it ends; exit code 1 says that a record failed, and the object
how many. Latency does not count the records of the first second, so there must
be more of them than --rate.`
	return c
}

func (p *Program) benchRun(name, short string, run func(context.Context, bench.Options, io.Writer) error) *cobra.Command {
	var o bench.Options
	var acks, compression, pids string
	c := &cobra.Command{
		Use: name + " --topic T", Short: short, Args: takes(),
		Example: "  millstream bench " + name + " --topic bench --records 1000000 --record-size 1024 -o json",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if p.output != "" && p.output != "json" {
				return misuse(c, "output %q: bench prints json", p.output)
			}
			if o.Acks, err = parseAcks(acks); err != nil {
				return misuse(c, "%v", err)
			}
			if o.Compression, err = parseCompression(compression); err != nil {
				return misuse(c, "%v", err)
			}
			if o.ServerPIDs, err = parsePIDs(pids); err != nil {
				return misuse(c, "--server-pids %q: must be process numbers with commas between", pids)
			}
			if err := refuseZeros(c, name == "latency"); err != nil {
				return err
			}
			o.Dial = p.client
			err = run(c.Context(), o, p.Out)
			if bad, ok := errors.AsType[*bench.OptionError](err); ok {
				return misuse(c, "--%v", bad)
			}
			return err
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.Topic, "topic", "", "topic; created if it does not exist")
	flags.Int64Var(&o.Records, "records", bench.DefaultRecords, "records in all")
	flags.IntVar(&o.RecordSize, "record-size", bench.DefaultRecordSize, "bytes of each value")
	flags.IntVar(&o.BatchBytes, "batch-bytes", 0, "when a batch is full, in bytes; the client's default unless given")
	flags.IntVar(&o.Connections, "connections", 1, "connections that share the work")
	flags.Uint32Var(&o.Partitions, "partitions", 0, "partitions of the topic, if it is created; 1 unless given")
	flags.StringVar(&acks, "acks", "all", "who must have a record before it is acknowledged: all, leader or none")
	flags.StringVar(&compression, "compression", "none", "of batches: none, zstd, lz4 or snappy")
	flags.IntVar(&o.Rate, "rate", 0, "records a second; 0: as many as there can be; latency needs one, 1,000 unless given")
	flags.StringVar(&pids, "server-pids", "", "`PID,…` of servers whose CPU time is counted")
	return c
}

// refuseZeros refuses a 0 that was given: it would be taken for the default.
// Only the rate of produce has one, which is no limit.
func refuseZeros(c *cobra.Command, timed bool) error {
	flags := []string{"records", "record-size", "batch-bytes", "connections", "partitions"}
	if timed {
		flags = append(flags, "rate")
	}
	for _, name := range flags {
		if f := c.Flags().Lookup(name); f.Changed && f.Value.String() == "0" {
			return misuse(c, "--%s must be positive", name)
		}
	}
	return nil
}

func parsePIDs(s string) ([]int, error) {
	var pids []int
	for item := range strings.SplitSeq(s, ",") {
		if s == "" {
			break
		}
		pid, err := strconv.ParseUint(item, 10, 31)
		if err != nil {
			return nil, err
		}
		pids = append(pids, int(pid))
	}
	return pids, nil
}
