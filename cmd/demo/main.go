// Command demo runs the main job of Millstream on its embedded default and
// prints what it did: see package demo.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/millstream-io/millstream/cmd/internal/demo"
)

func main() { os.Exit(run()) }

// run returns the exit status.
func run() int {
	binary := flag.String("millstream", "bin/millstream", "the binary to run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo.Run(ctx, *binary, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}
