// Command scale measures how the cost of a server grows with partitions, with
// the size of its log, and with readers of cold records: see package scale. It
// prints one JSON object a measurement on standard output and a table on
// standard error, and exits 1 only if something failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/scale"
)

func main() {
	o := scale.Options{Out: os.Stdout, Log: os.Stderr}
	flag.StringVar(&o.Binary, "millstream", "bin/millstream", "the binary to run")
	flag.StringVar(&o.Dir, "dir", "", "where to put data, on a disk; they are removed at the end (default: the directory for temporary files)")
	parts := flag.String("parts", "throughput,restart,idle,cold", "what to measure")
	timeout := flag.Duration("timeout", 2*time.Hour, "the longest that all may take")
	flag.IntVar(&o.Rounds, "rounds", 5, "how often; the table has medians")
	flag.Int64Var(&o.Records, "records", 5_000_000, "throughput: records of 1 KiB")
	flag.StringVar(&o.Partitions, "partitions", "1,100,5000", "throughput: numbers of partitions to compare")
	flag.StringVar(&o.GB, "gb", "1,20", "restart: sizes of the log to compare, rising, in GB (10^9 bytes)")
	flag.IntVar(&o.Idle, "idle", 5000, "idle: partitions")
	flag.DurationVar(&o.Settle, "settle", 10*time.Second, "idle: how long nothing is done before a look")
	flag.Float64Var(&o.ColdGB, "cold-gb", 6, "cold: records to scan, in GB")
	flag.IntVar(&o.Readers, "readers", 8, "cold: how many scan")
	flag.Float64Var(&o.ReaderMBps, "reader-mbps", 200, "cold: the most that all of them read, in MB/s; 0: what they can")
	flag.IntVar(&o.Rate, "rate", 1000, "cold: records of 1 KiB produced a second")
	flag.DurationVar(&o.Span, "span", 20*time.Second, "cold: length of a run; its first second is not counted")
	scan := flag.String("scan", "", "be the readers of this server and -topic; for itself")
	topic := flag.String("topic", "", "see -scan")
	flag.Parse()
	o.Parts = strings.Split(*parts, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	var err error
	if *scan != "" {
		err = scale.Scan(ctx, *scan, *topic, o)
	} else {
		err = scale.Run(ctx, o)
	}
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}
