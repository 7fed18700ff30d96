// Package scale measures a `millstream dev` from outside, to see that cost does
// not grow with what should not matter: the number of partitions, the size of
// the log, partitions that nobody uses, readers of records that are not in
// memory. docs/operations/measurements.md says how to read it.
//
// It judges nothing: a measurement is never an error. It owns the server
// processes and the data directories, and removes both, whatever happens. What
// it looks at beside the API is /metrics and /proc, so it works on Linux only.
// Its goroutines end before Run returns.
package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/storage/vfs"
)

// recordBytes is the size of values.
const recordBytes = 1024

// Options say what is measured, and how large.
type Options struct {
	Binary   string
	Dir      string    // to make data directories in; "": that for temporary files
	Out, Log io.Writer // for measurements; for people
	Parts    []string  // throughput, restart, idle, cold
	Rounds   int

	Records        int64  // of a run of throughput
	Partitions     string // numbers to compare, with commas between
	GB             string // sizes of the log to restart on, rising
	Idle           int    // partitions
	Settle         time.Duration
	ColdGB         float64
	Readers        int
	ReaderMBps     float64 // of all readers together; 0: no limit
	Rate           int     // records a second
	Span           time.Duration
	partitions, gb []float64
}

// trial is a run of the program.
type trial struct {
	Options
	dir string // of the part
	results
}

// Run measures all parts and prints a table at the end.
func Run(ctx context.Context, o Options) (err error) {
	if o.partitions, err = numbers(o.Partitions); err != nil {
		return err
	}
	if o.gb, err = numbers(o.GB); err != nil {
		return err
	}
	base, err := os.MkdirTemp(o.Dir, "millstream-scale-")
	if err != nil {
		return err
	}
	t := &trial{Options: o, results: results{out: o.Out}}
	defer func() { err = errors.Join(err, os.RemoveAll(base), t.table(o.Log)) }()
	parts := map[string]struct {
		run func(context.Context) error
		gb  float64 // that it needs on the disk
	}{
		"throughput": {t.throughput, float64(o.Records) * recordBytes * 1.1e-9},
		"restart":    {t.restart, o.gb[len(o.gb)-1]},
		"idle":       {t.idle, 0},
		"cold":       {t.cold, o.ColdGB},
	}
	for _, name := range o.Parts {
		p, ok := parts[name]
		if !ok {
			return fmt.Errorf("there is no part %q", name)
		}
		t.dir = filepath.Join(base, name)
		_, err := fmt.Fprintf(o.Log, "%s: in %s\n", name, t.dir)
		if err == nil {
			err = room(base, p.gb+1) // 1 GB for metadata, and for others
		}
		if err == nil {
			err = p.run(ctx)
		}
		if err := errors.Join(err, os.RemoveAll(t.dir)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// numbers reads numbers with commas between.
func numbers(s string) (all []float64, err error) {
	for f := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q is not a list of numbers above 0", s)
		}
		all = append(all, n)
	}
	return all, nil
}

// room refuses a disk with less than so many GB free.
func room(dir string, gb float64) error {
	free, _, err := vfs.OS().FreeBytes(dir)
	if err == nil && float64(free) < gb*1e9 {
		err = fmt.Errorf("%.1f GB are needed in %s, %.1f GB are free", gb, dir, float64(free)/1e9)
	}
	return err
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
