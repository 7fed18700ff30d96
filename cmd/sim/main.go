// Command sim runs simulated clusters, one for each seed: see package sim. It
// exits 1 if a run violates what must hold, says where the history of that run
// is, and ends with a line `N passed, N failed`.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/sim"
)

func main() { os.Exit(run()) }

// run returns the exit status.
func run() int {
	seeds := flag.String("seeds", "1..500", "the seeds to run: one, or first..last")
	dir := flag.String("history", "", "directory for the histories of runs that fail; a temporary one unless set")
	all := flag.Bool("all", false, "keep the history of every run, and say a line of each")
	jobs := flag.Int("jobs", 2, "how many to run at once")
	flag.Parse()
	first, last, err := parseSeeds(*seeds)
	if err == nil && *jobs < 1 {
		err = fmt.Errorf("jobs %d: at least 1", *jobs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k := keeper{dir: *dir, all: *all}
	began := time.Now()
	runAll(ctx, first, last, *jobs, &k)
	fmt.Printf("%d records acknowledged, %d leader epochs, %d stale incarnations kept out, %s\n",
		k.acked, k.epochs, k.stale, time.Since(began).Round(time.Second/10))
	fmt.Printf("%d passed, %d failed\n", k.passed, k.failed)
	if k.failed > 0 || ctx.Err() != nil {
		return 1
	}
	return 0
}

func parseSeeds(s string) (first, last uint64, err error) {
	from, to, isRange := strings.Cut(s, "..")
	if !isRange {
		to = from
	}
	if first, err = strconv.ParseUint(from, 10, 64); err == nil {
		last, err = strconv.ParseUint(to, 10, 64)
	}
	if err != nil || last < first || last-first >= 1<<32 {
		return 0, 0, fmt.Errorf("seeds %q: want a number, or first..last", s)
	}
	return first, last, nil
}

// runAll runs the seeds until there are no more, or ctx ends.
func runAll(ctx context.Context, first, last uint64, jobs int, k *keeper) {
	next := make(chan uint64)
	var workers sync.WaitGroup
	for range jobs {
		workers.Go(func() {
			for seed := range next {
				k.keep(sim.Run(seed, sim.NoMistake))
			}
		})
	}
	for n := range last - first + 1 {
		select {
		case next <- first + n:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	workers.Wait()
}

// keeper counts results and writes histories down.
type keeper struct {
	sync.Mutex
	dir                                  string
	all                                  bool
	passed, failed, acked, epochs, stale int
}

func (k *keeper) keep(r sim.Result) {
	k.Lock()
	defer k.Unlock()
	k.acked += r.Acked
	k.epochs += r.Epochs
	k.stale += r.Stale
	if r.Violation == nil {
		k.passed++
	} else {
		k.failed++
	}
	if r.Violation == nil && !k.all {
		return
	}
	file, err := k.write(r)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		file = "not kept"
	}
	fmt.Printf("%v (history: %s)\n", r, file)
}

func (k *keeper) write(r sim.Result) (string, error) {
	if k.dir == "" {
		dir, err := os.MkdirTemp("", "millstream-sim-")
		if err != nil {
			return "", err
		}
		k.dir = dir
	}
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return "", err
	}
	file := filepath.Join(k.dir, fmt.Sprintf("seed-%d.txt", r.Seed))
	return file, os.WriteFile(file, r.History, 0o644)
}
