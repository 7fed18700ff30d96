// Command cluster runs controllers, three unless told otherwise, and three brokers on this machine
// until SIGTERM: see package cluster. It prints where they are, and `ready` on a
// line of its own when all brokers serve.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
)

// startTimeout bounds the start: a cluster with much to recover takes its time.
const startTimeout = 5 * time.Minute

func main() { os.Exit(run()) }

// run returns the exit status.
func run() int {
	var o cluster.Options
	flag.StringVar(&o.Binary, "millstream", "bin/millstream", "the binary to run")
	flag.StringVar(&o.Dir, "dir", "", "keep everything in this directory; empty: a temporary one")
	flag.IntVar(&o.Port, "port", 9650, "the port of the first broker, from which the others follow; 0: any that are free")
	flag.IntVar(&o.Controllers, "controllers", 3, "how many controllers there are: 1, 3 or 5; in a directory that has a cluster, as many as that has")
	flag.Parse()
	if o.Controllers != 1 && o.Controllers != 3 && o.Controllers != 5 {
		fmt.Fprintf(os.Stderr, "cluster: %d controllers: 1, 3 or 5 bear as many failures as one more would\n", o.Controllers)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	return 0
}

// serve runs a cluster until ctx ends, which is no error.
func serve(ctx context.Context, o cluster.Options) (err error) {
	c, err := cluster.Open(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.Start(starting); err != nil {
		if ctx.Err() == nil {
			return err
		}
		return c.Stop(context.WithoutCancel(ctx)) // asked to stop before it was ready
	}
	fmt.Printf("data        %s\n", c.Dir)
	for _, m := range c.Controllers() {
		fmt.Printf("%s  %s  http://%s/metrics\n", m.Name(), m.GRPCAddr, m.HTTPAddr)
		go tell(ctx, m)
	}
	for _, m := range c.Brokers() {
		fmt.Printf("%s      %s  http://%s\n", m.Name(), m.GRPCAddr, m.HTTPAddr)
		go tell(ctx, m)
	}
	fmt.Println("ready")
	<-ctx.Done()
	return c.Stop(context.WithoutCancel(ctx))
}

// tell says that a member has ended, and how it is started again. It ends with
// the member, or with ctx.
func tell(ctx context.Context, m *cluster.Member) {
	select {
	case <-m.Exited():
		if ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s has ended, see %s; start it again with %s\n", m.Name(), m.LogFile(), m.Script())
		}
	case <-ctx.Done():
	}
}
