package ceiling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/proc"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Options say what is measured.
type Options struct {
	// Self is this program, which is started as the servers.
	Self string
	// Dir is where the files go; "": that for temporary files.
	Dir string
	// Out takes a line of JSON for each round.
	Out    io.Writer
	Rounds int
	// MB is how much a round sends, in MB (10^6 bytes).
	MB int
	// Size is that of a message, and Window how many are in flight.
	Size, Window int
	Followers    int
	// Acks is `all` or `one`: how many followers must have a message.
	Acks string
	// From is `memory` or `file`: from where the leader sends.
	From string
	// TLS is between the servers.
	TLS bool
}

// The words of Options.
const (
	AcksAll    = "all"
	AcksOne    = "one"
	FromMemory = "memory"
	FromFile   = "file"
)

const (
	mostFollowers = 8
	mostMB        = 1_000_000
	mostWindow    = 10_000
	// warmBytes are sent before a round counts.
	warmBytes = 32 << 20
	// spareBytes of a disk are left to others.
	spareBytes = 1 << 30
)

func (o *Options) validate() error {
	switch {
	case o.Rounds < 1 || o.MB < 1:
		return errors.New("-rounds and -mb must be 1 or more")
	case o.Window < 1 || o.Window > mostWindow:
		return fmt.Errorf("-window %d: must be 1 to %d", o.Window, mostWindow)
	case o.Size < headBytes+1 || o.Size > rpc.DefaultMaxRequestBytes:
		return fmt.Errorf("-size %d: must be %d to %d", o.Size, headBytes+1, rpc.DefaultMaxRequestBytes)
	case o.MB > mostMB || o.messages() < 1:
		return fmt.Errorf("-mb %d: must be %d at most, and hold a message of %d bytes", o.MB, mostMB, o.Size)
	case o.Followers < 0 || o.Followers > mostFollowers:
		return fmt.Errorf("-followers %d: must be 0 to %d", o.Followers, mostFollowers)
	case o.Acks != AcksAll && o.Acks != AcksOne:
		return fmt.Errorf("-acks %q: must be %s or %s", o.Acks, AcksAll, AcksOne)
	case o.From != FromMemory && o.From != FromFile:
		return fmt.Errorf("-from %q: must be %s or %s", o.From, FromMemory, FromFile)
	}
	return nil
}

// messages is how many are measured, and warm how many are sent before.
func (o *Options) messages() int { return o.MB * 1e6 / o.Size }
func (o *Options) warm() int     { return min(o.messages(), max(1, warmBytes/o.Size)) }

// Result is what a round has measured, under which conditions.
type Result struct {
	What         string  `json:"what"`
	Round        int     `json:"round"`
	MessageBytes int     `json:"message_bytes"`
	Window       int     `json:"window"`
	Followers    int     `json:"followers"`
	Acks         string  `json:"acks"`
	From         string  `json:"from"`
	TLS          bool    `json:"tls"`
	Megabytes    float64 `json:"megabytes"`
	PerSecond    float64 `json:"megabytes_per_second"`
	// CPU seconds per GB, of all servers together, of the leader among them, and
	// of the client.
	ServerCPU float64 `json:"server_cpu_seconds_per_gb"`
	LeaderCPU float64 `json:"leader_cpu_seconds_per_gb"`
	ClientCPU float64 `json:"client_cpu_seconds_per_gb"`
	Latency   Latency `json:"latency_ms"`
}

// Latency is how long answers took.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Run measures rounds, each with processes and files of its own. It fails if
// any byte is not where it should be.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.Dir, "millstream-ceiling-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := o.room(dir); err != nil {
		return err
	}
	l := newLoad(o.Size)
	want := l.digest(o.warm() + o.messages())
	for n := range o.Rounds {
		r, err := o.round(ctx, dir, l, want)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		r.Round = n
		if err := json.NewEncoder(o.Out).Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// room refuses a disk on which a round has no room.
func (o *Options) room(dir string) error {
	need := uint64(o.messages()+o.warm())*uint64(o.Size)*uint64(o.Followers+1) + spareBytes
	free, _, err := vfs.OS().FreeBytes(dir)
	if err == nil && free < need {
		err = fmt.Errorf("%d MB are needed in %s, and %d MB are free: choose another -dir, or less -mb", need/1e6, dir, free/1e6)
	}
	return err
}

// round makes one round.
func (o *Options) round(ctx context.Context, base string, l *load, want digest) (r *Result, err error) {
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	servers, err := o.open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer servers.close()
	if r, err = o.measure(ctx, servers, l); err != nil {
		return nil, errors.Join(err, servers.stop()) // they may know better
	}
	if err := servers.stop(); err != nil {
		return nil, err
	}
	for _, s := range servers.all {
		got, err := digestOf(s.log())
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, fmt.Errorf("the file of %s has %d bytes with CRC-32C %08x, not %d with %08x", s.name(), got.length, got.crc, want.length, want.crc)
		}
	}
	return r, nil
}

// measure sends the messages of a round.
func (o *Options) measure(ctx context.Context, servers *servers, l *load) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(servers.ctx, cancel)()
	c, err := dial(ctx, servers.addr, l, o.Size, o.Window)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if _, err := c.send(ctx, 0, o.warm()); err != nil {
		return nil, err
	}
	pids, self := servers.pids(), []int{os.Getpid()}
	before, err := cpu(pids, pids[:1], self)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	took, err := c.send(ctx, o.warm(), o.warm()+o.messages())
	if err != nil {
		return nil, err
	}
	seconds := time.Since(begun).Seconds()
	if err := c.finish(); err != nil { // whoever was not waited for has it all now too
		return nil, err
	}
	after, err := cpu(pids, pids[:1], self)
	if err != nil {
		return nil, err
	}
	slices.Sort(took)
	mb := float64(len(took)) * float64(o.Size) / 1e6
	perGB := func(group int) float64 { return rounded((after[group] - before[group]) / mb * 1e3) }
	return &Result{
		What: "ceiling", MessageBytes: o.Size, Window: o.Window, Followers: o.Followers, Acks: o.Acks, From: o.From, TLS: o.TLS,
		Megabytes: rounded(mb), PerSecond: rounded(mb / seconds),
		ServerCPU: perGB(0), LeaderCPU: perGB(1), ClientCPU: perGB(2),
		Latency: Latency{P50: quantile(took, 0.5), P99: quantile(took, 0.99)},
	}, nil
}

// cpu returns the CPU seconds of each group of processes.
func cpu(groups ...[]int) (all []float64, err error) {
	for _, pids := range groups {
		s, err := proc.CPUSeconds(pids)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func rounded(f float64) float64 { return math.Round(f*1e3) / 1e3 }

// quantile returns the least of the sorted times that a fraction q of them does
// not exceed, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return rounded(sorted[i].Seconds() * 1e3)
}
