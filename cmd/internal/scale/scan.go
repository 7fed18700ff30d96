package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	millstream "github.com/millstream-io/millstream/clients/go"
)

// readers runs the readers of cold until ctx ends, and returns how many bytes
// they got.
//
// WHY a process of their own: in this one they would compete with the producer
// for the goroutine scheduler, and its latency would be of that.
func (t *trial) readers(ctx context.Context, addr, topic string) (n int64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	var out bytes.Buffer
	c := exec.CommandContext(ctx, self, "-scan", addr, "-topic", topic, "-readers", fmt.Sprint(t.Readers), "-reader-mbps", fmt.Sprint(t.ReaderMBps))
	c.Stdout, c.Stderr, c.WaitDelay = &out, t.Log, 10*time.Second
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	err = c.Run()
	if _, unread := fmt.Sscan(out.String(), &n); unread != nil {
		return 0, fmt.Errorf("the readers ended: %w", errors.Join(err, unread))
	}
	return n, nil
}

// Scan is the process of the readers: each reads a partition from its beginning
// to its end, over and over, until ctx ends. It prints how many bytes that was.
func Scan(ctx context.Context, addr, topic string, o Options) error {
	var n atomic.Int64
	group, scans := errgroup.WithContext(ctx)
	for i := range o.Readers {
		group.Go(func() error { return scan(scans, addr, topic, uint32(i), o.ReaderMBps*1e6/float64(o.Readers), &n) })
	}
	if err := group.Wait(); ctx.Err() == nil {
		return err
	}
	_, err := fmt.Fprintln(o.Out, n.Load())
	return err
}

func scan(ctx context.Context, addr, topic string, partition uint32, perSecond float64, all *atomic.Int64) error {
	c, err := millstream.New(millstream.Options{Addr: addr})
	if err != nil {
		return err
	}
	defer c.Close()
	begun, mine := time.Now(), 0
	for {
		r, err := c.NewReader(ctx, millstream.ReaderOptions{Topic: topic, Partitions: []uint32{partition}, UntilEnd: true, BufferBytes: 8 << 20})
		if err != nil {
			return err
		}
		for n := 0; err == nil; n++ {
			var record *millstream.FetchedRecord
			if record, err = r.Next(ctx); err != nil {
				break
			}
			mine += len(record.Value)
			all.Add(int64(len(record.Value)))
			if n%256 == 0 && perSecond > 0 {
				err = rest(ctx, time.Duration(float64(mine)/perSecond*float64(time.Second))-time.Since(begun))
			}
		}
		r.Close()
		if !errors.Is(err, io.EOF) {
			return err
		}
	}
}
