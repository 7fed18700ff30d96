// Package crash kills a loaded `millstream dev` with SIGKILL, starts it again,
// and looks for every record that was acknowledged, as often as asked.
//
// Invariant checked: a batch that was acknowledged with a base offset is found
// there after the restart, whole and unchanged; offsets have no gaps; nothing
// that was found once is ever missing later; and the history of the run keeps
// every rule of package check that one server can be held to. It uses the generated stubs alone,
// so that no retry of a client can hide a loss. It owns the server process and
// the data directory, which it keeps when a check fails.
package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millstream-io/millstream/cmd/internal/chronicle"
	"github.com/millstream-io/millstream/cmd/internal/devserver"
	"github.com/millstream-io/millstream/cmd/internal/history"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

const topic = "crash"

// Options says what to run.
type Options struct {
	Binary     string
	Cycles     int
	Partitions int
	// Durability of the topic: disk or memory. A killed process keeps the page
	// cache, so that nothing may be lost at either.
	Durability string
	// Seed decides when the server is killed.
	Seed uint64
	// History is the directory that the history of the run is kept in; empty:
	// it goes with the data when all is well.
	History string
	Out     io.Writer
}

// trial is a run of the test.
type trial struct {
	Options
	dir       string
	random    *rand.Rand
	ledger    *ledger
	chronicle *chronicle.Chronicle
}

// data is the data directory of the server.
func (t *trial) data() string { return filepath.Join(t.dir, "data") }

// Run runs the cycles and returns how many passed.
func Run(ctx context.Context, o Options) (passed int, err error) {
	dir, err := os.MkdirTemp("", "millstream-crash-")
	if err != nil {
		return 0, err
	}
	if o.History == "" {
		o.History = filepath.Join(dir, "history")
	}
	c, err := chronicle.New(o.History)
	if err != nil {
		return 0, errors.Join(err, os.RemoveAll(dir))
	}
	t := &trial{Options: o, dir: dir, random: rand.New(rand.NewPCG(o.Seed, 0)), ledger: newLedger(o.Partitions, c), chronicle: c}
	start := time.Now()
	defer func() {
		if closed := c.Close(); err == nil {
			err = closed
		}
		if err == nil {
			err = os.RemoveAll(dir)
		} else {
			err = fmt.Errorf("%w (seed %d; data kept in %s)", err, o.Seed, dir)
		}
	}()
	for cycle := range o.Cycles {
		if err := t.cycle(ctx, cycle); err != nil {
			return passed, fmt.Errorf("cycle %d: %w", cycle, err)
		}
		passed++
		if passed%10 == 0 {
			t.say("%d kills, %d batches acknowledged, all found (%s)\n", passed, t.ledger.acknowledged(), time.Since(start).Round(time.Second))
		}
	}
	if err := t.verifyAll(ctx); err != nil {
		return passed, err
	}
	return passed, t.judge()
}

// cycle starts the server, checks what the kill before it left, loads it, and
// kills it.
func (t *trial) cycle(ctx context.Context, cycle int) error {
	server, err := devserver.Start(ctx, t.Binary, t.data())
	if err != nil {
		return err
	}
	defer server.Kill()
	t.chronicle.Healed(history.FaultKill, 0)
	conn, err := dial(server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is to be saved
	if cycle == 0 {
		_, err := pb.NewTopicServiceClient(conn).CreateTopic(ctx, &pb.CreateTopicRequest{
			Topic: topic, PartitionCount: uint32(t.Partitions), Config: map[string]string{"durability": t.Durability, "segment.bytes": "1048576"},
		})
		if err != nil {
			return err
		}
	} else if err := t.ledger.verifyNew(ctx, conn); err != nil {
		return err
	}

	loadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	loaded := make(chan error, 1)
	go func() { loaded <- load(loadCtx, conn, cycle, t.ledger) }()
	// Sometimes before the first acknowledgement, mostly in full flow.
	life := time.Duration(t.random.Int64N(int64(400 * time.Millisecond)))
	select {
	case err := <-loaded:
		return fmt.Errorf("the load ended before the server was killed: %w", err)
	case <-time.After(life):
	}
	t.chronicle.Fault(history.FaultKill, 0)
	server.Kill()
	cancel()
	// It ends with the connection; what was acknowledged is in the ledger.
	if err := <-loaded; err == nil {
		return errors.New("the load ended without a cause")
	}
	t.chronicle.Cut(uint64(cycle+1), "the server was killed")
	return ctx.Err()
}

// verifyAll starts the server once more and reads everything from the start.
func (t *trial) verifyAll(ctx context.Context) error {
	server, err := devserver.Start(ctx, t.Binary, t.data())
	if err != nil {
		return err
	}
	defer server.Kill()
	conn, err := dial(server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is to be saved
	if err := t.ledger.verifyNew(ctx, conn); err != nil {
		return err
	}
	records, err := t.ledger.verifyFromStart(ctx, conn)
	if err != nil {
		return err
	}
	t.say("read %d records from the start: all %d acknowledged batches are where they were acknowledged\n", records, t.ledger.acknowledged())
	if err := server.Stop(); err != nil {
		return err
	}
	return t.chronicle.Dump(0, t.data(), []chronicle.Topic{{Name: topic, ID: t.ledger.topicID}})
}

// judge has the history judged.
func (t *trial) judge() error {
	report, err := t.chronicle.Check(t.Out)
	if err != nil {
		return err
	}
	passed, failed := report.Counts()
	if failed > 0 {
		return fmt.Errorf("the history violates %d rules", failed)
	}
	t.say("%d rules hold in the history of %d events\n", passed, report.Events)
	return nil
}

// say prints progress; a writer that fails loses no more than that.
func (t *trial) say(format string, args ...any) { _, _ = fmt.Fprintf(t.Out, format, args...) }

func dial(s *devserver.Server) (*grpc.ClientConn, error) {
	return grpc.NewClient(s.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
}
