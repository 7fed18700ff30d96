// Command chaos breaks a cluster of real processes while clients use it, and
// judges what they were told: see package chaos. Its last line is 'N passed, N
// failed', counted in rules; it exits 1 if one failed or there is no verdict.
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

	"github.com/millstream-io/millstream/cmd/internal/chaos"
)

func main() { os.Exit(run()) }

// run returns the exit status.
func run() int {
	o := chaos.Options{Out: os.Stdout}
	flag.StringVar(&o.Binary, "millstream", "bin/millstream", "the binary to run")
	flag.StringVar(&o.Dir, "dir", "", "keep data and history in this directory; empty: a temporary one, which is removed if nothing failed")
	flag.Uint64Var(&o.Seed, "seed", 1, "decides the faults")
	flag.DurationVar(&o.Duration, "duration", time.Minute, "how long faults are made")
	faults := flag.String("faults", "", "kinds of faults, separated by commas: "+strings.Join(chaos.Names(), ", "))
	flag.Parse()
	if *faults != "" {
		o.Faults = strings.Split(*faults, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	passed, failed, err := chaos.Run(ctx, o)
	if err != nil {
		fmt.Println("chaos:", err)
		failed++
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return 1
	}
	return 0
}
