package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millstream-io/millstream/cmd/internal/check"
	"github.com/millstream-io/millstream/cmd/internal/chronicle"
	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Options say what run it is.
type Options struct {
	// Binary is the program to run.
	Binary string
	// Dir keeps data and history; "": a temporary directory, which is removed if
	// nothing was violated.
	Dir string
	// Seed decides the faults and their times.
	Seed uint64
	// Duration is how long faults are made.
	Duration time.Duration
	// Faults are the kinds that are made; nil: Defaults of what the machine can.
	Faults []string
	// Out takes what goes on.
	Out io.Writer
}

const (
	producers  = 4
	partitions = 4
	// mendTimeout bounds the time in which a mended cluster has to be whole.
	mendTimeout = 2 * time.Minute
	// segmentBytes is small, so that many segments are sealed.
	segmentBytes = "1048576"
	// scrubRate has damage found soon.
	scrubRate = "64MiB"
)

// reconnect has clients be back soon after what they were cut off from: by
// default they would wait for longer the longer that was, up to two minutes.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 2 * time.Second,
}

// topics are what is produced to, one at each durability.
var topics = [...]string{"disk", "memory"}

// run is one run.
type run struct {
	o       Options
	rig     *rig
	c       *cluster.Cluster
	book    *chronicle.Chronicle
	random  *rand.Rand
	conns   []*grpc.ClientConn // to broker i+1
	ids     map[string][]byte  // of topics
	tally   tally
	ledger  ledger
	faults  map[string]int
	history string
	guard   guard
	// forgetful says that what was in memory alone may be gone.
	forgetful atomic.Bool
	followed  [len(topics)]following // by topic
	asked     atomic.Uint32          // see someConn

	// Of who makes faults:
	spare           *cluster.Member // a broker that is not in the cluster; nil: none
	spareController *cluster.Member // a controller that is not
	until           time.Time       // when scripts come to their end
	turns           map[string]int  // how often a script that has turns was made
	wide            wide            // the topic of many partitions, if there is one
}

// Run makes a run and returns how many rules held, and how many did not. An
// error says that the run failed beside the rules: a fault could not be made or
// mended, a process ended by itself, a reader did not get on, the cluster did
// not become whole again, or could not be started.
func Run(ctx context.Context, o Options) (passed, failed int, err error) {
	for _, f := range o.Faults {
		if _, ok := menu[f]; !ok {
			return 0, 0, fmt.Errorf("fault %q: they are %v", f, Names())
		}
	}
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "millstream-chaos-"); err != nil {
			return 0, 0, err
		}
	}
	r := &run{random: rand.New(rand.NewPCG(o.Seed, 0)), ids: map[string][]byte{}, faults: map[string]int{}, turns: map[string]int{}, history: filepath.Join(dir, "history")}
	begun := false
	defer func() {
		if o.Dir == "" && (err == nil && failed == 0 || !begun) {
			err = errors.Join(err, os.RemoveAll(dir))
			return
		}
		r.say("data and history are in %s\n", dir)
	}()
	home := filepath.Join(dir, "cluster")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return 0, 0, err
	}
	if r.rig, err = openRig(&o, home); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.rig.close()) }() // the cluster is closed by then
	r.o, begun = o, true
	if r.book, err = chronicle.New(r.history); err != nil {
		return 0, 0, err
	}
	r.c, err = cluster.Open(cluster.Options{
		Binary: o.Binary, Dir: home,
		BrokerArgs: []string{"--audit-dir", r.history, "--scrub-bytes-per-second", scrubRate}, Host: r.rig.hosts(),
	})
	if err != nil {
		return 0, 0, err
	}
	// What judge has stopped stays as it was judged.
	defer func() { err = errors.Join(err, r.c.Stop(context.WithoutCancel(ctx)), r.c.Close()) }()
	if err := r.prepare(ctx); err != nil {
		return 0, 0, err
	}
	defer r.hangUp()
	stormed := r.storm(ctx)
	if ctx.Err() != nil {
		return 0, 0, context.Cause(ctx)
	}
	passed, failed, err = r.judge(ctx)
	return passed, failed, errors.Join(stormed, r.guard.verdict(), err)
}

func (r *run) say(format string, args ...any) { _, _ = fmt.Fprintf(r.o.Out, format, args...) }

// needs tells whether any of the faults needs something.
func (r *run) needs(it func(fault) bool) bool {
	return slices.ContainsFunc(r.o.Faults, func(name string) bool { return it(menu[name]) })
}

// prepare starts the cluster and makes the topics.
func (r *run) prepare(ctx context.Context) error {
	var err error
	if r.needs(func(f fault) bool { return f.spareController }) {
		// Before brokers are started: they are to know where it will serve them.
		if r.spareController, err = r.c.AddController(); err != nil {
			return err
		}
	}
	if err := r.startAll(ctx, append(r.controllers(), r.brokers()...)); err != nil {
		return err
	}
	if r.needs(func(f fault) bool { return f.spare }) {
		if r.spare, err = r.c.AddBroker(); err != nil {
			return err
		}
	}
	for _, m := range r.c.Brokers() {
		conn, err := grpc.NewClient("passthrough:///"+m.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)), grpc.WithConnectParams(reconnect))
		if err != nil {
			return err
		}
		r.conns = append(r.conns, conn)
	}
	for _, name := range topics {
		got, err := pb.NewTopicServiceClient(r.anyConn()).CreateTopic(ctx, &pb.CreateTopicRequest{
			Topic: name, PartitionCount: partitions, Config: map[string]string{"durability": name, "segment.bytes": segmentBytes},
		})
		if err != nil {
			return err
		}
		r.ids[name] = got.GetTopic().GetTopicId()
	}
	if r.needs(func(f fault) bool { return f.wide }) {
		return r.wide.make(ctx, r.anyConn())
	}
	return nil
}

func (r *run) hangUp() {
	for _, conn := range r.conns {
		_ = conn.Close() // nothing is to be saved
	}
}

// storm breaks and mends while clients work.
func (r *run) storm(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	working, stopProducing := context.WithCancel(reading)
	defer stopProducing()
	var producing, clients sync.WaitGroup
	for p := range producers {
		random := rand.New(rand.NewPCG(r.o.Seed, uint64(p)+1))
		producing.Go(func() { r.produce(working, p, random) })
	}
	for t := range topics {
		random := rand.New(rand.NewPCG(r.o.Seed, uint64(t)+100))
		clients.Go(func() { r.follow(reading, t, random) })
	}
	for a := range admins {
		random := rand.New(rand.NewPCG(r.o.Seed, uint64(a)+200))
		producing.Go(func() { r.administer(working, random) })
	}
	begun := time.Now()
	err := r.nemesis(ctx, time.Now().Add(r.o.Duration))
	mended := time.Now()
	err = errors.Join(err, r.whole(ctx))
	// For a moment nothing is broken: what clients could not do before, they can.
	pause(ctx, time.Second)
	err = errors.Join(err, r.recovered(ctx, mended))
	stopProducing()
	producing.Wait()
	r.tally.settle()
	err = errors.Join(err, r.caughtUp(ctx))
	stop()
	clients.Wait()
	longest := r.tally.longest()
	topic, partition := partitionOf(longest.place)
	r.say("%d batches acknowledged, %d refused, %d of unknown outcome; longest time without an acknowledgement of a partition %v, of %s/%d from %v on; faults %v\n",
		r.tally.acked.Load(), r.tally.refused.Load(), r.tally.unknown.Load(),
		longest.Round(time.Millisecond), topic, partition, longest.begun.Sub(begun).Round(time.Millisecond), r.faults)
	return err
}

// whole waits until every partition is led and in sync everywhere, as any of
// the brokers says it.
func (r *run) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	var last error
	for i := 0; ; i++ {
		asking, done := context.WithTimeout(ctx, 2*time.Second)
		in := r.brokers()
		got, err := pb.NewClusterServiceClient(r.connTo(in[i%len(in)])).DescribeCluster(asking, &pb.DescribeClusterRequest{})
		done()
		if err == nil && got.GetOfflinePartitionCount() == 0 && got.GetUnderReplicatedPartitionCount() == 0 && got.GetReassigningPartitionCount() == 0 {
			return nil
		}
		if last = err; err == nil {
			last = fmt.Errorf("%d partitions are offline, %d under-replicated, %d moving",
				got.GetOfflinePartitionCount(), got.GetUnderReplicatedPartitionCount(), got.GetReassigningPartitionCount())
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("the cluster is not whole %v after everything was mended: %w", mendTimeout, last)
		}
	}
}

// recovered waits until every partition has acknowledged something since a time.
// How long it takes, the history judges.
func (r *run) recovered(ctx context.Context, since time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, since.Add(check.RecoveryMax+patience))
	defer cancel()
	for place := range uint64(len(topics) * partitions) {
		for !r.tally.ackedSince(place, since) {
			if !pause(ctx, lookEvery) {
				topic, partition := partitionOf(place)
				return fmt.Errorf("%s/%d acknowledges nothing %v after everything was mended", topic, partition, time.Since(since).Round(time.Second))
			}
		}
	}
	return nil
}

// judge reads everything once more, stops the cluster, writes down what is in
// the logs, and has the history judged.
func (r *run) judge(ctx context.Context) (passed, failed int, err error) {
	ends, err := r.drain(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := r.describeAll(ctx); err != nil {
		return 0, 0, err
	}
	// The dumps are to be complete: no replica has fallen behind meanwhile.
	if err := r.whole(ctx); err != nil {
		return 0, 0, err
	}
	r.guard.expectAll()
	if err := r.c.Stop(ctx); err != nil {
		return 0, 0, err
	}
	var known []chronicle.Topic
	for _, name := range topics {
		known = append(known, chronicle.Topic{Name: name, ID: r.ids[name], Committed: func(_ int32, p uint32) (int64, bool) {
			return ends[name][p], true // all were in sync at the end
		}})
	}
	for _, m := range r.c.Brokers() {
		if err := r.book.Dump(int32(m.ID), m.DataDir(), known); err != nil {
			return 0, 0, err
		}
	}
	report, err := r.book.Check(r.o.Out)
	if err != nil {
		return 0, 0, err
	}
	if report.Released > 0 && !r.forgetful.Load() {
		// The rules ask no more than whether all that had it failed at some time;
		// here one was whole again before the next lost anything.
		err = fmt.Errorf("%d times a batch is gone, and not all that had it lost their power together", report.Released)
	}
	passed, failed = report.Counts()
	return passed, failed, errors.Join(err, r.judgeDamage())
}
