package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// restart starts a server on a log that grows from size to size, after a stop
// in order and after SIGKILL, with nothing of the log in memory.
func (t *trial) restart(ctx context.Context) error {
	topic, err := t.prepare(ctx, "restart", 1, "disk")
	if err != nil {
		return err
	}
	for _, gb := range t.gb {
		if err := generate(ctx, t.dir, topic, 0, int64(gb*1e9), 256<<20); err != nil {
			return err
		}
		before := "stop"
		for i := range 2 * t.Rounds {
			end := []string{"kill", "stop"}[i%2]
			m, err := t.restarted(ctx, topic, end)
			if err != nil {
				return err
			}
			head := measurement{{"part", "restart"}, {"log_gb", json.Number(fmt.Sprint(gb))}, {"after", before}, {"round", i / 2}}
			if err := t.add(append(head, m...)); err != nil {
				return err
			}
			before = end
		}
	}
	return nil
}

// restarted starts the server and ends it.
func (t *trial) restarted(ctx context.Context, topic *pb.Topic, end string) (measurement, error) {
	files, err := filepath.Glob(filepath.Join(logDir(t.dir, topic, 0), "*"))
	if err != nil {
		return nil, err
	}
	if err := forget(ctx, files); err != nil {
		return nil, err
	}
	begun := time.Now()
	s, err := t.start(ctx, t.dir)
	if err != nil {
		return nil, err
	}
	defer s.kill()
	ready := time.Since(begun)
	var produced, fetched time.Duration
	var both errgroup.Group
	both.Go(func() error {
		err := s.produce(ctx, topic.GetTopic(), 1, nil)
		produced = time.Since(begun)
		return err
	})
	both.Go(func() error {
		r, err := s.NewReader(ctx, millstream.ReaderOptions{Topic: topic.GetTopic(), From: millstream.BeforeEnd(1)})
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = r.Next(ctx)
		fetched = time.Since(begun)
		return err
	})
	if err := both.Wait(); err != nil {
		return nil, err
	}
	read, err := diskReads(s.PID())
	if err != nil {
		return nil, err
	}
	if end == "stop" {
		err = s.stop()
	}
	return measurement{
		{"ready_ms", ms(ready)}, {"first_acknowledged_ms", ms(produced)}, {"first_fetched_ms", ms(fetched)},
		{"disk_read_mb", read},
	}, err
}
