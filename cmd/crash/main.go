// Command crash kills a loaded server with SIGKILL again and again and looks
// for every acknowledged record: see package crash. It exits 1 if one is
// missing and ends with a line `N passed, N failed`.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/millstream-io/millstream/cmd/internal/crash"
)

func main() { os.Exit(run()) }

// run returns the exit status.
func run() int {
	o := crash.Options{Out: os.Stdout}
	flag.StringVar(&o.Binary, "millstream", "bin/millstream", "the binary to run")
	flag.IntVar(&o.Cycles, "cycles", 300, "how often to kill the server")
	flag.IntVar(&o.Partitions, "partitions", 4, "partitions of the topic")
	flag.StringVar(&o.Durability, "durability", "disk", "durability of the topic: disk or memory")
	flag.Uint64Var(&o.Seed, "seed", 1, "seed of the times at which the server is killed")
	flag.StringVar(&o.History, "history", "", "keep the history in this directory, for millstream check")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	passed, err := crash.Run(ctx, o)
	failed := 0
	if err != nil {
		failed = 1
		fmt.Fprintln(os.Stderr, "crash:", err)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return 1
	}
	return 0
}
