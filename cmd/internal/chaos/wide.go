package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

const (
	wideTopic      = "wide"
	widePartitions = 200
	// wideAtOnce is how many of its partitions are written or read at once.
	wideAtOnce = 4
)

// wide is a topic of many partitions that are moved about. It is no part of the
// history: a few records in each say whether it was moved as a whole.
type wide struct {
	mu    sync.Mutex // guards acked
	acked [widePartitions][]string

	made  bool // there is such a topic
	round int
}

// make creates the topic.
func (w *wide) make(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := pb.NewTopicServiceClient(conn).CreateTopic(ctx, &pb.CreateTopicRequest{Topic: wideTopic, PartitionCount: widePartitions})
	w.made = err == nil
	return err
}

// each does something with all partitions.
func (w *wide) each(do func(p uint32) error) error {
	var all errgroup.Group
	all.SetLimit(wideAtOnce)
	for p := range uint32(widePartitions) {
		all.Go(func() error { return do(p) })
	}
	return all.Wait()
}

// write appends one more record to each partition, and keeps those that were
// acknowledged: nothing may be broken, but leaders may be new.
func (w *wide) write(ctx context.Context, conn *grpc.ClientConn) error {
	w.round++
	return w.each(func(p uint32) error {
		for try := 0; ; try++ {
			text := fmt.Sprintf("round %d partition %d try %d", w.round, p, try)
			_, err := pb.NewBrokerServiceClient(conn).Append(ctx, &pb.AppendRequest{
				Topic: wideTopic, Partition: &p, Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: text}}},
			})
			if err == nil {
				w.mu.Lock()
				w.acked[p] = append(w.acked[p], text)
				w.mu.Unlock()
				return nil
			}
			if !pause(ctx, lookEvery) {
				return fmt.Errorf("append to %s/%d: %w", wideTopic, p, err)
			}
		}
	})
}

// look reads all partitions, and fails if a record is missing that was
// acknowledged.
func (w *wide) look(ctx context.Context, conn *grpc.ClientConn) error {
	return w.each(func(p uint32) error {
		for {
			there, err := readTexts(ctx, conn, p)
			if err == nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				if lost := missing(w.acked[p], there); lost != "" {
					return fmt.Errorf("%s/%d has lost %q, which was acknowledged; it has %q", wideTopic, p, lost, there)
				}
				return nil
			}
			if !pause(ctx, lookEvery) {
				return fmt.Errorf("read %s/%d: %w", wideTopic, p, err)
			}
		}
	})
}

// missing returns the first of acked that is not in there, in the order of both;
// "": all are.
func missing(acked, there []string) string {
	for _, text := range there {
		if len(acked) > 0 && text == acked[0] {
			acked = acked[1:]
		}
	}
	if len(acked) > 0 {
		return acked[0]
	}
	return ""
}

func readTexts(ctx context.Context, conn *grpc.ClientConn, partition uint32) ([]string, error) {
	r, err := pb.NewBrokerServiceClient(conn).Read(ctx, &pb.ReadRequest{Topic: wideTopic, Partition: partition})
	if err != nil {
		return nil, err
	}
	var texts []string
	for {
		record, err := r.Recv()
		if errors.Is(err, io.EOF) {
			return texts, nil
		}
		if err != nil {
			return nil, err
		}
		texts = append(texts, record.GetText())
	}
}
