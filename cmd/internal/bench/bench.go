// Package bench measures a running cluster through the Go client, record by
// record: how fast records are appended, how fast they are read back, and how
// long one takes from the one to the other.
//
// It owns the clients it makes and closes them before it returns; its
// goroutines end with them. It prints one JSON object and nothing else.
//
// INVARIANT: a run that began prints its object, however it ends; every record
// that was not acknowledged (or read) is in errors, and then the run fails too.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/cmd/internal/proc"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Options say what is measured. Only Topic is required.
type Options struct {
	// Dial returns a new connection to the cluster; one is made for each of
	// Connections. nil: to a broker at Addr.
	Dial func() (*millstream.Client, error)
	// Addr is the HOST:PORT of a broker, if Dial is nil.
	Addr string
	// Topic is used as it is; if it does not exist it is created.
	Topic string
	// Partitions of the topic, if it is created. 0: 1.
	Partitions uint32
	// Records in all. 0: DefaultRecords.
	Records int64
	// RecordSize is the size of values, in bytes. 0: DefaultRecordSize.
	RecordSize int
	// BatchBytes is as in millstream.ProducerOptions.
	BatchBytes int
	// Connections share the work, each with a producer or reader of its own.
	// 0: 1.
	Connections int
	Acks        millstream.Acks
	Compression millstream.Compression
	// Rate is how many records a second are handed over. For latency
	// 0 is DefaultRate; for produce 0 is as many as there can be.
	Rate int
	// ServerPIDs are the processes whose CPU time is counted.
	ServerPIDs []int
}

// Defaults of Options.
const (
	DefaultRecords    = 1_000_000
	DefaultRecordSize = 1024
	DefaultRate       = 1000
)

// Latency is a distribution, in milliseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Result is what a run measured.
type Result struct {
	// Records that were acknowledged, or read.
	Records int64 `json:"records"`
	// Errors counts records that were not.
	Errors           int64   `json:"errors"`
	Seconds          float64 `json:"seconds"`
	RecordsPerSecond float64 `json:"records_per_second"`
	// MegabytesPerSecond counts values, 10^6 bytes.
	MegabytesPerSecond float64 `json:"megabytes_per_second"`
	// Latency is of produce: from the hand-over of a record until its
	// acknowledgement (sampled); of consume: how long the reader waited for a
	// record (sampled); of latency: from the time a record was due until a
	// reader had it (every one after the first second).
	Latency Latency `json:"latency_ms"`
	// ServerCPU is CPU seconds of the servers per 10^9 bytes of values; absent
	// unless asked for.
	ServerCPU *float64 `json:"server_cpu_seconds_per_gb,omitempty"`
}

// FailedError says that records failed; the result has been printed.
type FailedError struct {
	Errors int64
	First  error
}

// Error says how many, and how the first failed.
func (e *FailedError) Error() string {
	what := "records"
	if e.Errors == 1 {
		what = "record"
	}
	return fmt.Sprintf("%d %s failed: %v", e.Errors, what, e.First)
}

// Unwrap returns how the first failed.
func (e *FailedError) Unwrap() error { return e.First }

// OptionError names an option that is not acceptable.
type OptionError struct{ Option, What string }

// Error names the option.
func (e *OptionError) Error() string { return e.Option + ": " + e.What }

// RunProduce appends Options.Records records and prints how fast that was.
func RunProduce(ctx context.Context, o Options, stdout io.Writer) error {
	return run(ctx, o, stdout, produce)
}

// RunConsume reads Options.Records records of all partitions from the
// earliest on and prints how fast that was.
func RunConsume(ctx context.Context, o Options, stdout io.Writer) error {
	return run(ctx, o, stdout, consume)
}

// RunLatency hands records over at Options.Rate, whatever the answers take,
// and prints how long they took until a reader at the tail had them.
func RunLatency(ctx context.Context, o Options, stdout io.Writer) error {
	o = o.withDefaults()
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if err := errors.Join(o.validate(), o.validateLatency()); err != nil {
		return err
	}
	return o.measure(ctx, stdout, latency)
}

// workload measures. err says why it could not begin, first how the first of
// the records failed that did.
type workload func(ctx context.Context, o *Options) (r Result, first error, err error)

func run(ctx context.Context, o Options, stdout io.Writer, do workload) error {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return err
	}
	return o.measure(ctx, stdout, do)
}

// measure runs a workload with checked options.
func (o *Options) measure(ctx context.Context, stdout io.Writer, do workload) error {
	if err := o.prepare(ctx); err != nil {
		return err
	}
	before, err := proc.CPUSeconds(o.ServerPIDs)
	if errors.Is(err, proc.ErrUnsupported) {
		return &OptionError{"server-pids", "CPU time of other processes is " + err.Error()}
	}
	if err != nil {
		return err
	}
	result, first, err := do(ctx, o)
	if err != nil {
		return err
	}
	if first != nil && ctx.Err() != nil {
		first = context.Cause(ctx) // what was under way says less
	}
	var unknown error // a server that is gone has no CPU time
	if len(o.ServerPIDs) > 0 {
		var after float64
		after, unknown = proc.CPUSeconds(o.ServerPIDs)
		perGB := 0.0
		if gb := float64(result.Records) * float64(o.RecordSize) / 1e9; gb > 0 {
			perGB = (after - before) / gb
		}
		if unknown == nil {
			result.ServerCPU = &perGB
		}
	}
	if err := json.NewEncoder(stdout).Encode(result); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	if result.Errors > 0 {
		return &FailedError{Errors: result.Errors, First: first}
	}
	return errors.Join(first, unknown)
}

func (o Options) withDefaults() Options {
	if o.Records == 0 {
		o.Records = DefaultRecords
	}
	if o.RecordSize == 0 {
		o.RecordSize = DefaultRecordSize
	}
	if o.Connections == 0 {
		o.Connections = 1
	}
	if o.Dial == nil {
		addr := o.Addr
		o.Dial = func() (*millstream.Client, error) { return millstream.New(millstream.Options{Addr: addr}) }
	}
	return o
}

// maxConnections bounds what one run opens.
const maxConnections = 1000

func (o *Options) validate() error {
	switch {
	case o.Topic == "":
		return &OptionError{"topic", "is required"}
	case o.Records < 0:
		return &OptionError{"records", "must be positive"}
	case o.RecordSize < 1 || o.RecordSize > 3<<20:
		return &OptionError{"record-size", "must be between 1 B and 3 MiB"}
	case o.Connections < 1 || o.Connections > maxConnections:
		return &OptionError{"connections", fmt.Sprintf("must be between 1 and %d", maxConnections)}
	case o.Rate < 0:
		return &OptionError{"rate", "must be positive"}
	case o.BatchBytes != 0 && (o.BatchBytes < 1<<10 || o.BatchBytes > 3<<20):
		return &OptionError{"batch-bytes", "must be between 1 KiB and 3 MiB"}
	}
	return nil
}

// validateLatency checks what latency asks for beyond validate.
func (o *Options) validateLatency() error {
	switch {
	case o.Rate > 0 && o.Records <= int64(o.Rate):
		return &OptionError{"records", fmt.Sprintf("must be at least %d at a rate of %d a second: those of the first second are not counted", o.Rate+1, o.Rate)}
	case o.RecordSize < stampBytes:
		return &OptionError{"record-size", fmt.Sprintf("must be at least %d B for latency", stampBytes)}
	}
	return nil
}

// prepare creates the topic if it does not exist.
func (o *Options) prepare(ctx context.Context) error {
	c, err := o.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: o.Topic})
	err = millstream.ErrorOf("describe", o.Topic, err)
	if said, ok := errors.AsType[*millstream.Error](err); ok && said.Code == codes.NotFound {
		_, err = c.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{Topic: o.Topic, PartitionCount: max(o.Partitions, 1)})
		return millstream.ErrorOf("create", o.Topic, err)
	}
	return err
}

// finish fills in what follows from the rest.
func (r *Result) finish(o *Options, took time.Duration) {
	r.Seconds = took.Seconds()
	if r.Seconds > 0 {
		r.RecordsPerSecond = float64(r.Records) / r.Seconds
		r.MegabytesPerSecond = r.RecordsPerSecond * float64(o.RecordSize) / 1e6
	}
}
