package servertest_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// hushed is the way to a controller that hears of no doubt while it is on.
type hushed struct {
	controllerv1.ControllerServiceClient
	on    *atomic.Bool
	tried chan<- struct{} // capacity 1
}

func (h hushed) Heartbeat(ctx context.Context, r *controllerv1.HeartbeatRequest, o ...grpc.CallOption) (*controllerv1.HeartbeatResponse, error) {
	if !h.on.Load() {
		return h.ControllerServiceClient.Heartbeat(ctx, r, o...)
	}
	if logs := r.GetRecoveredLogs(); len(logs) > 0 && logs[0].GetDoubtful() {
		select {
		case h.tried <- struct{}{}:
		default:
		}
	}
	return nil, status.Error(codes.Unavailable, "not heard")
}

// The last broker in sync loses its power and, with it, what it has
// acknowledged. It starts, finds that out, and is killed before it has told
// anybody. When it comes again, and nobody else is there, it is not to lead.
func TestADoubtThatWasNotToldIsNotForgotten(t *testing.T) {
	const records = 50
	var on atomic.Bool
	tried := make(chan struct{}, 1)
	c := servertest.StartCluster(t, servertest.ClusterOptions{Broker: func(o *broker.Options) {
		o.CheckpointInterval = time.Hour // what is synced last is not known to be
		o.Controller = hushed{o.Controller, &on, tried}
	}})
	fill(t, c, records)
	last := leaderOf(t, c)
	awaitInSync(t, last)
	for _, m := range c.Members {
		if m != last {
			m.Kill()
		}
	}
	if _, err := last.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		return len(s.TopicByName("orders").Partitions[0].ISR) == 1
	}); err != nil {
		t.Fatal(err)
	}
	last.LosePower(memfs.LoseUnsynced())
	file := logFile(t, last)
	info, err := last.FS.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := storagetest.Flip(last.FS, file, info.Size()-1, 0); err != nil {
		t.Fatal(err)
	}
	on.Store(true)
	last.Launch()
	<-tried
	last.Kill()
	on.Store(false)
	last.Start()
	if _, err := last.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		p := s.TopicByName("orders").Partitions[0]
		return p.Leader != metadata.NoLeader || len(p.ISR) == 0
	}); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.Members {
		if m != last {
			m.Start()
		}
	}
	leader := leaderOf(t, c)
	if leader == last {
		t.Errorf("broker %d leads though it lacks what it has acknowledged", last.ID)
	}
	readAll(t, leader, records)
	// It has everything again when it has caught up.
	awaitInSync(t, leader)
	for _, m := range c.Members {
		if m != last {
			m.Stop()
		}
	}
	readAll(t, leaderOf(t, c), records)
}
