package scale

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// cold measures how long records take to be acknowledged at an even rate while
// nobody reads, while readers scan records that are in memory, and while they
// scan records that are not, in alternation. Each reader has a partition of its
// own; records are produced to the same ones, in turn.
func (t *trial) cold(ctx context.Context) error {
	var topics []*pb.Topic
	size := int64(t.ColdGB*1e9) / int64(2*t.Readers)
	for _, durability := range []string{"disk", "memory"} {
		topic, err := t.prepare(ctx, durability, t.Readers, durability)
		if err != nil {
			return err
		}
		topics = append(topics, topic)
		for p := range t.Readers {
			if err := generate(ctx, t.dir, topic, p, size, size/8); err != nil {
				return err
			}
		}
	}
	s, err := t.start(ctx, t.dir)
	if err != nil {
		return err
	}
	defer s.kill()
	for round := range t.Rounds {
		for _, topic := range topics {
			for _, readers := range []string{"none", "warm", "cold"} {
				m, err := t.tail(ctx, s, topic, readers)
				if err != nil {
					return fmt.Errorf("durability %s, readers %s: %w", topic.GetTopic(), readers, err)
				}
				head := measurement{{"part", "cold"}, {"durability", topic.GetTopic()}, {"readers", readers}, {"round", round}}
				if err := t.add(append(head, m...)); err != nil {
					return err
				}
			}
		}
	}
	return s.stop()
}

// tail produces for a while with readers of one kind.
func (t *trial) tail(ctx context.Context, s *server, topic *pb.Topic, readers string) (measurement, error) {
	sealed, err := filepath.Glob(filepath.Join(t.dir, "topics", fmt.Sprintf("%x-*", topic.GetTopicId()), "*.index"))
	if err != nil {
		return nil, err
	}
	for i, name := range sealed {
		sealed[i] = name[:len(name)-len(".index")] + ".log"
	}
	if len(sealed) == 0 {
		return nil, errors.New("no segment is sealed")
	}
	if readers == "warm" {
		err = warm(sealed)
	} else {
		err = forget(ctx, sealed)
	}
	if err != nil {
		return nil, err
	}
	before, err := residency(sealed)
	if err != nil {
		return nil, err
	}
	diskBefore, err := diskReads(s.PID())
	if err != nil {
		return nil, err
	}
	var scanned int64
	var during []float64
	var produced paced
	begun := time.Now()
	whole, cancel := context.WithCancel(ctx)
	defer cancel()
	group, span := errgroup.WithContext(whole)
	if readers != "none" {
		group.Go(func() (err error) { scanned, err = t.readers(span, s.GRPCAddr, topic.GetTopic()); return err })
		group.Go(func() (err error) { during, err = watch(span, sealed, readers == "cold"); return err })
	}
	group.Go(func() error {
		defer cancel()
		return produced.run(span, s, topic.GetTopic(), t.Rate, t.Span)
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	took := time.Since(begun).Seconds()
	diskAfter, err := diskReads(s.PID())
	slices.Sort(produced.took)
	slices.Sort(during)
	return measurement{
		{"p50_ms", ms(quantile(produced.took, 0.5))}, {"p99_ms", ms(quantile(produced.took, 0.99))}, {"p999_ms", ms(quantile(produced.took, 0.999))},
		{"max_ms", ms(quantile(produced.took, 1))}, {"records", float64(len(produced.took))},
		{"read_mb_per_second", float64(scanned) / 1e6 / took}, {"disk_read_mb_per_second", (diskAfter - diskBefore) / took},
		{"resident_before", before}, {"resident_during", quantile(during, 0.5)},
	}, err
}

// forget evicts files until next to nothing of them is in memory. What the
// server has mapped stays until it lets go, which it does after a second or two.
func forget(ctx context.Context, files []string) error {
	for range 100 {
		if err := evict(files); err != nil {
			return err
		}
		if resident, err := residency(files); err != nil || resident < 0.01 {
			return err
		}
		if err := rest(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the files stay in memory: is the directory on a disk?")
}

// watch returns which fraction of files was in memory, from time to time until
// ctx ends, and evicts them after each look if told to.
func watch(ctx context.Context, files []string, evicts bool) (resident []float64, err error) {
	for ctx.Err() == nil {
		now, err := residency(files)
		if err == nil && evicts {
			err = evict(files)
		}
		if err != nil {
			return resident, err
		}
		resident = append(resident, now)
		_ = rest(ctx, 250*time.Millisecond)
	}
	return resident, nil
}
