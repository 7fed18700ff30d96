// Command ceiling measures what this machine allows for replication with no
// platform at all: see package ceiling. It prints one JSON object a round, and
// exits 1 if a byte is not where it should be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/ceiling"
)

func main() { os.Exit(run()) }

// run returns the exit status.
func run() int {
	o := ceiling.Options{Out: os.Stdout}
	flag.StringVar(&o.Dir, "dir", "", "where to put files, on a disk; they are removed at the end (default: the directory for temporary files)")
	flag.IntVar(&o.Rounds, "rounds", 5, "how often")
	flag.IntVar(&o.MB, "mb", 1000, "MB (10^6 bytes) of a round, beside 32 MiB before it")
	flag.IntVar(&o.Size, "size", 256<<10, "bytes of a message")
	flag.IntVar(&o.Window, "window", 64, "messages in flight")
	flag.IntVar(&o.Followers, "followers", 2, "who follow the leader; 0: it is alone")
	flag.StringVar(&o.Acks, "acks", ceiling.AcksAll, "who must have a message before it is answered, beside the leader: all followers, or one")
	flag.StringVar(&o.From, "from", ceiling.FromMemory, "from where the leader sends to followers: memory, as it came, or the file")
	flag.BoolVar(&o.TLS, "tls", true, "mutual TLS between the servers")
	timeout := flag.Duration("timeout", 10*time.Minute, "the longest that all may take")
	serve := flag.String(ceiling.ServeFlag, "", "be a server of a round; for itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *serve != "" {
		err = ceiling.Serve(ctx, *serve, os.Stdin, os.Stdout, os.Stderr)
	} else if o.Self, err = os.Executable(); err == nil {
		ctx, cancel := context.WithTimeout(ctx, *timeout)
		defer cancel()
		err = ceiling.Run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ceiling:", err)
		return 1
	}
	return 0
}
