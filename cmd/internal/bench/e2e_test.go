package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/server/servertest"
)

// dial returns a way to connect to a server.
func dial(s *servertest.Server) func() (*millstream.Client, error) {
	return func() (*millstream.Client, error) {
		return millstream.New(millstream.Options{Addr: "passthrough:///test", DialOptions: []grpc.DialOption{s.Dialer()}})
	}
}

// inTime returns a context that ends long after the test should have.
func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// measured runs a workload and returns what it printed.
func measured(t *testing.T, run func(context.Context, Options, io.Writer) error, o Options) Result {
	t.Helper()
	var out bytes.Buffer
	if err := run(inTime(t), o, &out); err != nil {
		t.Fatal(err)
	}
	var r Result
	in := json.NewDecoder(&out)
	in.DisallowUnknownFields()
	if err := in.Decode(&r); err != nil || in.More() {
		t.Fatalf("printed %q: %v", out.String(), err)
	}
	return r
}

func TestWhatIsProducedIsConsumed(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	for _, compression := range []millstream.Compression{millstream.CompressionNone, millstream.CompressionLZ4} {
		o := Options{
			Dial: dial(s), Topic: fmt.Sprint("made-here-", int(compression)), Partitions: 3, Records: 10_000, RecordSize: 100,
			Connections: 2, Compression: compression, ServerPIDs: []int{os.Getpid()},
		}
		if r := measured(t, RunProduce, o); r.Records != o.Records || r.Errors != 0 || r.RecordsPerSecond <= 0 || r.Latency.Max <= 0 {
			t.Errorf("produce: %+v", r)
		}
		r := measured(t, RunConsume, o)
		if r.Records != o.Records || r.Errors != 0 || r.MegabytesPerSecond <= 0 || r.ServerCPU == nil {
			t.Errorf("consume: %+v", r)
		}
		o.Records++
		var short *ShortError
		if err := RunConsume(inTime(t), o, io.Discard); !errors.As(err, &short) || short.Got != o.Records-1 {
			t.Errorf("consume of more than there is: %v", err)
		}
	}
}

func TestLatencyIsThatOfTheRecordsAfterTheFirstSecond(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 2)
	o := Options{Dial: dial(s), Topic: "t", Records: 300, RecordSize: 100, Rate: 200}
	measured(t, RunProduce, o) // what was there before does not count
	r := measured(t, RunLatency, o)
	if r.Records != 300 || r.Errors != 0 || r.Seconds < 1.4 || r.Latency.P50 <= 0 {
		t.Errorf("latency: %+v", r)
	}
}

// A run that is cut off tells of every record what became of it.
func TestARunThatIsCutOffPrintsItsObject(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	for name, run := range map[string]func(context.Context, Options, io.Writer) error{"produce": RunProduce, "latency": RunLatency} {
		t.Run(name, func(t *testing.T) {
			s.CreateTopic(name, 1)
			client, err := dial(s)()
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			r, err := client.NewReader(inTime(t), millstream.ReaderOptions{Topic: name})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ctx, cut := context.WithCancel(inTime(t))
			defer cut()
			var out bytes.Buffer
			ended := make(chan error, 1)
			o := Options{Dial: dial(s), Topic: name, Records: 1_000_000, RecordSize: 100, Rate: 1000, ServerPIDs: []int{os.Getpid()}}
			go func() { ended <- run(ctx, o, &out) }()
			if _, err := r.Next(inTime(t)); err != nil { // it has begun
				t.Fatal(err)
			}
			cut()
			var failed *FailedError
			if err := <-ended; !errors.As(err, &failed) || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			var got Result
			in := json.NewDecoder(&out)
			if err := in.Decode(&got); err != nil || in.More() {
				t.Fatalf("printed %q: %v", out.String(), err)
			}
			if got.Errors == 0 || got.Records+got.Errors != o.Records {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestABrokerThatIsRestartedInOrderLosesNothingOfAnybody(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 2)
	client, err := dial(s)()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := inTime(t)
	p, err := client.NewProducer(ctx, millstream.ProducerOptions{Topic: "t", BatchRecords: 10})
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.NewReader(ctx, millstream.ReaderOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const records, restarts = 6000, 3
	handed := make(chan struct{}) // every thousand records
	done := make(chan error, 1)
	go func() {
		defer close(handed)
		for i := range records {
			if _, err := p.AppendTo(ctx, uint32(i%2), millstream.Record{Value: fmt.Append(nil, i/2)}); err != nil {
				done <- err
				return
			}
			if i%1000 == 999 {
				handed <- struct{}{}
			}
		}
		done <- p.Close(ctx)
	}()
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		n := 0
		for range handed {
			if n++; n <= restarts {
				s.Restart()
			}
		}
	}()
	next := make(map[uint32]int)
	for range records {
		record, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", next, err)
		}
		if string(record.Value) != fmt.Sprint(next[record.Partition]) || record.Offset != int64(next[record.Partition]) {
			t.Fatalf("partition %d: %s at offset %d, want %d", record.Partition, record.Value, record.Offset, next[record.Partition])
		}
		next[record.Partition]++
	}
	if err := <-done; err != nil {
		t.Errorf("a planned stop failed records: %v", err)
	}
	<-restarted
}
