// Command growth measures what clients notice when a cluster grows, shrinks
// and is restarted, when leaders are killed or their disks are in trouble, and what
// thousands of partitions cost: see package growth.
// It prints one JSON object a measurement on standard output and a table on
// standard error, and exits 1 if a client met an error or a record is not where
// it should be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/growth"
)

func main() { os.Exit(run()) }

// run returns the exit status.
func run() int {
	o := growth.Options{Out: os.Stdout, Log: os.Stderr}
	flag.StringVar(&o.Binary, "millstream", "bin/millstream", "the binary to run")
	flag.StringVar(&o.Dir, "dir", "", "keep everything in this directory; empty: a temporary one")
	flag.IntVar(&o.Rate, "rate", 2000, "records of 1 KiB a second")
	flag.DurationVar(&o.Calm, "calm", 15*time.Second, "how long each state is looked at")
	flag.Uint64Var(&o.MoveRate, "move-rate", 1_000_000, "bytes a second that each replica is filled with that is added; 0: as fast as can be")
	flag.IntVar(&o.Partitions, "partitions", 0, "measure a cluster with so many partitions instead")
	flag.IntVar(&o.Kills, "kills", 0, "measure how long clients wait when so many leaders, and so many active controllers, are killed, instead")
	flag.BoolVar(&o.Verbose, "v", false, "say what was noticed in each second, and what happened to the partitions in it")
	flag.StringVar(&o.Trouble, "trouble", "", "measure what clients notice when the disk of the leader of all is slow, full or read-only, or that of the active controller is slow (slow-controller), instead")
	flag.StringVar(&o.SlowDisk, "slow-disk", "", "the setting of that name of the brokers for -trouble; 0 shows what clients notice without it")
	timeout := flag.Duration("timeout", 30*time.Minute, "the longest that all may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	measure := growth.Grow
	switch {
	case o.Trouble != "":
		measure = growth.Gray
	case o.Kills > 0:
		measure = growth.FailOver
	case o.Partitions > 0:
		measure = growth.Many
	}
	if err := measure(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "growth:", err)
		return 1
	}
	return 0
}
