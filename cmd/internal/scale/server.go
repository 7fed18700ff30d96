package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/cmd/internal/devserver"
	"github.com/millstream-io/millstream/cmd/internal/proc"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// server is a running server and a connection to it.
type server struct {
	*devserver.Server
	*millstream.Client
}

func (t *trial) start(ctx context.Context, dir string) (*server, error) {
	// Without the scrubber, which reads a segment for most of a minute, and so
	// brings into memory what is to be on the disk alone.
	s, err := devserver.Start(ctx, t.Binary, dir, "--scrub-bytes-per-second", "0")
	if err != nil {
		return nil, err
	}
	c, err := millstream.New(millstream.Options{Addr: s.GRPCAddr})
	if err != nil {
		s.Kill()
		return nil, err
	}
	return &server{s, c}, nil
}

// kill ends the server if it runs.
func (s *server) kill() {
	s.Close()
	s.Kill()
}

// stop ends the server in order.
func (s *server) stop() error {
	s.Close()
	return s.Stop()
}

// prepare has a server make a topic and stops it.
func (t *trial) prepare(ctx context.Context, name string, partitions int, durability string) (*pb.Topic, error) {
	s, err := t.start(ctx, t.dir)
	if err != nil {
		return nil, err
	}
	defer s.kill()
	topic, err := s.create(ctx, name, partitions, durability)
	if err != nil {
		return nil, err
	}
	return topic, errors.Join(s.touch(ctx, name), s.stop())
}

func (s *server) create(ctx context.Context, topic string, partitions int, durability string) (*pb.Topic, error) {
	r, err := s.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{
		Topic: topic, PartitionCount: uint32(partitions), Config: map[string]string{"durability": durability},
	})
	return r.GetTopic(), err
}

// produce hands n records over, each to the partition that to says, and waits
// until all are acknowledged. to nil: to any.
func (s *server) produce(ctx context.Context, topic string, n int64, to func(i int64) uint32) error {
	p, err := s.NewProducer(ctx, millstream.ProducerOptions{Topic: topic})
	if err != nil {
		return err
	}
	r := millstream.Record{Value: make([]byte, recordBytes)}
	for i := int64(0); i < n && err == nil; i++ {
		if to == nil {
			_, err = p.Append(ctx, r)
		} else {
			_, err = p.AppendTo(ctx, to(i), r)
		}
	}
	return errors.Join(err, p.Close(ctx))
}

// touch appends a record to each partition.
func (s *server) touch(ctx context.Context, topic string) error {
	t, err := s.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: topic})
	if err != nil {
		return err
	}
	return s.produce(ctx, topic, int64(t.GetTopic().GetPartitionCount()), func(i int64) uint32 { return uint32(i) })
}

// consume reads all that there is, which must be so many records.
func (s *server) consume(ctx context.Context, topic string, want int64) error {
	r, err := s.NewReader(ctx, millstream.ReaderOptions{Topic: topic, UntilEnd: true})
	if err != nil {
		return err
	}
	defer r.Close()
	n := int64(0)
	for ; err == nil; n++ {
		_, err = r.Next(ctx)
	}
	if n--; errors.Is(err, io.EOF) && n == want {
		return nil
	}
	return fmt.Errorf("after %d records of %d: %w", n, want, err)
}

// reading are numbers read from the server at some time.
type reading struct {
	at     time.Time
	values map[string]float64
}

// read asks the server for metrics.
func (s *server) read(ctx context.Context, names ...string) (reading, error) {
	values, err := proc.Metrics(ctx, s.HTTPAddr, names...)
	return reading{at: time.Now(), values: values}, err
}
