package node_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/etcd"
	"github.com/millstream-io/millstream/controller/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds a test's calls.
const patience = 30 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func create(ctx context.Context, t *testing.T, c *controllertest.Controller, topic string, partitions uint32) *controllerv1.CreateTopicResponse {
	t.Helper()
	resp, err := c.Client.CreateTopic(ctx, &controllerv1.CreateTopicRequest{Topic: topic, PartitionCount: partitions, RequestId: topic})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// view is the metadata as a watch tells it.
type view struct {
	stream     controllerv1.ControllerService_WatchMetadataClient
	revision   int64
	generation uint32
	snapshots  int
	frames     int
	topics     map[string]*controllerv1.TopicRecord
	partitions map[string]map[uint32]*controllerv1.PartitionRecord // by topic id
	deletions  map[string]*controllerv1.DeletionRecord
	cluster    *controllerv1.ClusterRecord
}

func watch(ctx context.Context, t *testing.T, c *controllertest.Controller, v *view) *view {
	t.Helper()
	if v == nil {
		v = &view{}
	}
	s, err := c.Client.WatchMetadata(ctx, &controllerv1.WatchMetadataRequest{Revision: v.revision, ClusterGeneration: v.generation, BrokerId: 1})
	if err != nil {
		t.Fatal(err)
	}
	v.stream, v.snapshots = s, 0
	return v
}

// until reads frames until the view has reached a revision.
func (v *view) until(t *testing.T, revision int64) {
	t.Helper()
	for v.revision < revision {
		v.next(t)
	}
}

func (v *view) next(t *testing.T) {
	t.Helper()
	f, err := v.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if n := proto.Size(f); n > 4<<20 {
		t.Errorf("a frame has %d bytes", n)
	}
	v.frames++
	if f.GetSnapshotBegin() {
		v.snapshots++
		v.topics, v.deletions = map[string]*controllerv1.TopicRecord{}, map[string]*controllerv1.DeletionRecord{}
		v.partitions = map[string]map[uint32]*controllerv1.PartitionRecord{}
	}
	for _, c := range f.GetChanges() {
		switch c := c.GetChange().(type) {
		case *controllerv1.MetadataChange_Cluster:
			v.cluster = c.Cluster
		case *controllerv1.MetadataChange_Topic:
			v.topics[c.Topic.GetTopic()] = c.Topic
			v.partitions[string(c.Topic.GetTopicId())] = map[uint32]*controllerv1.PartitionRecord{}
		case *controllerv1.MetadataChange_Partition:
			v.partitions[string(c.Partition.GetTopicId())][c.Partition.GetPartition()] = c.Partition
		case *controllerv1.MetadataChange_Deletion:
			delete(v.topics, c.Deletion.GetTopic())
			delete(v.partitions, string(c.Deletion.GetTopicId()))
			v.deletions[string(c.Deletion.GetTopicId())] = c.Deletion
		}
	}
	if f.GetRevision() > 0 {
		v.revision, v.generation = f.GetRevision(), f.GetClusterGeneration()
	}
}

func TestEverythingIsThereAfterARestart(t *testing.T) {
	ctx := bounded(t)
	c := controllertest.Start(t)
	b := controllertest.StartBroker(t, c.Client, 1)
	kept := create(ctx, t, c, "kept", 3)
	gone := create(ctx, t, c, "gone", 1)
	if _, err := c.Client.UpdateTopicConfig(ctx, &controllerv1.UpdateTopicConfigRequest{Topic: "kept", Set: map[string]string{"retention.ms": "1000"}}); err != nil {
		t.Fatal(err)
	}
	deleted, err := c.Client.DeleteTopic(ctx, &controllerv1.DeleteTopicRequest{Topic: "gone"})
	if err != nil {
		t.Fatal(err)
	}
	v := watch(ctx, t, c, nil)
	v.until(t, deleted.GetRevision())
	before := *v
	c.Stop(t)

	c = controllertest.Start(t, controllertest.In(c.Dir))
	v = watch(ctx, t, c, v)
	v.next(t)
	v.until(t, before.revision)
	if !proto.Equal(v.cluster, before.cluster) || len(v.cluster.GetClusterId()) != 16 {
		t.Errorf("the cluster is %v, it was %v", v.cluster, before.cluster)
	}
	topic := v.topics["kept"]
	if len(v.topics) != 1 || string(topic.GetTopicId()) != string(kept.GetTopic().GetTopicId()) || topic.GetConfig()["retention.ms"] != "1000" {
		t.Errorf("the topics are %v", v.topics)
	}
	if ps := v.partitions[string(topic.GetTopicId())]; len(ps) != 3 || ps[2].GetLeader() != 1 || ps[2].GetLeaderEpoch() != 1 {
		t.Errorf("the partitions are %v", ps)
	}
	if d := v.deletions[string(gone.GetTopic().GetTopicId())]; d.GetRevision() != deleted.GetRevision() || d.GetTopic() != "gone" {
		t.Errorf("the deletion is %v", d)
	}
	// A request from before is answered as it was; a broker goes on in its epoch.
	again, err := c.Client.CreateTopic(ctx, &controllerv1.CreateTopicRequest{Topic: "kept", PartitionCount: 3, RequestId: "kept"})
	if err != nil || !proto.Equal(again, kept) {
		t.Errorf("a request of before is answered by %v, %v; it was %v", again, err, kept)
	}
	heir := controllertest.NewBroker(c.Client, 1)
	heir.Epoch = b.Epoch
	if got, err := heir.Beat(ctx); err != nil || got.GetFenced() {
		t.Errorf("a heartbeat after the restart: %v, %v", got, err)
	}
	last := heir.Epoch
	if _, err := heir.Register(ctx); err != nil || heir.Epoch <= last || !heir.Registered.GetEligible() {
		t.Errorf("registered in epoch %d after %d: %v", heir.Epoch, last, err)
	}
}

func TestFiveThousandPartitionsTakeSeconds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const partitions = 5_000
	c := controllertest.Start(t, func(o *node.Options) { o.Tick = 0 }) // the ticks of production
	b := controllertest.StartBroker(t, c.Client, 1)
	v := watch(ctx, t, c, nil)
	v.next(t)
	start := time.Now()
	made := create(ctx, t, c, "large", partitions)
	created := time.Since(start)
	v.until(t, made.GetRevision())
	if n := len(v.partitions[string(made.GetTopic().GetTopicId())]); n != partitions {
		t.Fatalf("%d partitions are told of", n)
	}
	// Its broker comes back: every one of them has another epoch.
	start = time.Now()
	if _, err := b.Register(ctx); err != nil {
		t.Fatal(err)
	}
	resp, err := b.Beat(ctx)
	if err != nil || resp.GetFenced() {
		t.Fatal(resp, err)
	}
	t.Logf("created in %v, led anew in %v", created, time.Since(start))
	v.until(t, resp.GetRevision())
	for _, p := range v.partitions[string(made.GetTopic().GetTopicId())] {
		if p.GetLeader() != 1 || p.GetLeaderEpoch() != 3 {
			t.Fatalf("partition %v", p)
		}
	}
}

func TestAWatchTellsOnceAndConfirms(t *testing.T) {
	ctx := bounded(t)
	c := controllertest.Start(t)
	controllertest.StartBroker(t, c.Client, 1)
	v := watch(ctx, t, c, nil)
	v.until(t, create(ctx, t, c, "a", 1).GetRevision())
	if v.snapshots != 1 || v.topics["a"] == nil {
		t.Errorf("%d snapshots, topics %v", v.snapshots, v.topics)
	}
	at, frames := v.revision, v.frames
	v.next(t) // the controller says that there is nothing new
	if v.revision != at || v.frames != frames+1 {
		t.Errorf("revision %d after %d", v.revision, at)
	}
	// A broker that comes back is told what it missed, and only that.
	missed := create(ctx, t, c, "b", 2).GetRevision()
	v = watch(ctx, t, c, v)
	v.until(t, missed)
	if v.snapshots != 0 || len(v.topics) != 2 {
		t.Errorf("it resumed with %d snapshots; topics %v", v.snapshots, v.topics)
	}
	v.generation = 9
	v = watch(ctx, t, c, v)
	v.next(t)
	if v.snapshots != 1 {
		t.Error("a watch of another generation was resumed")
	}
}

func TestAWatchEndsWhenTheControllerStops(t *testing.T) {
	ctx := bounded(t)
	c := controllertest.Start(t)
	v := watch(ctx, t, c, nil)
	v.next(t)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.Stop(t)
	}()
	for {
		if _, err := v.stream.Recv(); err != nil {
			if status.Code(err) != codes.Unavailable || rpc.RequestErrorOf(err).GetReason() != pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN {
				t.Errorf("the watch ends with %v", err)
			}
			break
		}
	}
	<-stopped
}

func TestCallersAreToldWhatIsWrong(t *testing.T) {
	ctx := bounded(t)
	c := controllertest.Start(t, func(o *node.Options) { o.MaxPartitions = 5 })
	controllertest.StartBroker(t, c.Client, 1)
	create(ctx, t, c, "a", 1)
	topic := func(change func(*controllerv1.CreateTopicRequest)) func() error {
		return func() error {
			r := &controllerv1.CreateTopicRequest{Topic: "b", PartitionCount: 1}
			change(r)
			_, err := c.Client.CreateTopic(ctx, r)
			return err
		}
	}
	update := func(r *controllerv1.UpdateTopicConfigRequest) func() error {
		return func() error { _, err := c.Client.UpdateTopicConfig(ctx, r); return err }
	}
	remove := func(r *controllerv1.DeleteTopicRequest) func() error {
		return func() error { _, err := c.Client.DeleteTopic(ctx, r); return err }
	}
	register := func(change func(*controllerv1.RegisterBrokerRequest)) func() error {
		return func() error { _, err := controllertest.NewBroker(c.Client, 7).Register(ctx, change); return err }
	}
	for name, want := range map[string]struct {
		call   func() error
		code   codes.Code
		reason pb.ErrorReason
	}{
		"a topic again":          {topic(func(r *controllerv1.CreateTopicRequest) { r.Topic = "a" }), codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_TOPIC_EXISTS},
		"a name that is none":    {topic(func(r *controllerv1.CreateTopicRequest) { r.Topic = "a b" }), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"a name of the system's": {topic(func(r *controllerv1.CreateTopicRequest) { r.Topic = "__groups" }), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"far too many partitions": {topic(func(r *controllerv1.CreateTopicRequest) { r.PartitionCount = 1 << 31 }),
			codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"too many partitions":  {topic(func(r *controllerv1.CreateTopicRequest) { r.PartitionCount = 5 }), codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED},
		"too many replicas":    {topic(func(r *controllerv1.CreateTopicRequest) { r.ReplicationFactor = 2 }), codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_BROKERS},
		"an unknown setting":   {topic(func(r *controllerv1.CreateTopicRequest) { r.Config = map[string]string{"x": "y"} }), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_UNKNOWN_CONFIG},
		"a senseless setting":  {update(&controllerv1.UpdateTopicConfigRequest{Topic: "a", Set: map[string]string{"retention.ms": "soon"}}), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_CONFIG},
		"settings of no topic": {update(&controllerv1.UpdateTopicConfigRequest{Topic: "b"}), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION},
		"a conflict":           {update(&controllerv1.UpdateTopicConfigRequest{Topic: "a", ExpectedRevision: new(int64(1))}), codes.Aborted, pb.ErrorReason_ERROR_REASON_CONFLICT},
		"a deletion of nothing": {remove(&controllerv1.DeleteTopicRequest{Topic: "b"}),
			codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION},
		"a short topic id":  {remove(&controllerv1.DeleteTopicRequest{Topic: "a", TopicId: []byte{1}}), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"no address":        {register(func(r *controllerv1.RegisterBrokerRequest) { r.Address = "" }), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"a negative broker": {register(func(r *controllerv1.RegisterBrokerRequest) { r.BrokerId = -1 }), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"another cluster": {register(func(r *controllerv1.RegisterBrokerRequest) { r.ClusterId = make([]byte, 16) }),
			codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_WRONG_CLUSTER},
		"a stale epoch": {func() error {
			_, err := c.Client.Heartbeat(ctx, &controllerv1.HeartbeatRequest{BrokerId: 1, BrokerEpoch: 1})
			return err
		}, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_STALE_BROKER_EPOCH},
	} {
		t.Run(name, func(t *testing.T) {
			err := want.call()
			if got := rpc.RequestErrorOf(err); status.Code(err) != want.code || got.GetReason() != want.reason {
				t.Errorf("%v: %v %v, want %v %v", err, status.Code(err), got.GetReason(), want.code, want.reason)
			}
		})
	}
}

func TestTwoControllersDoNotShareADirectory(t *testing.T) {
	c := controllertest.Start(t)
	l := rpc.ListenInProcess()
	n, err := node.New(node.Options{DataDir: c.Dir, Listeners: []net.Listener{l}, Logger: controllertest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*etcd.InUseError](n.Run(bounded(t))); !ok {
		t.Error("it runs")
	}
}
