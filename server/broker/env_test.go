package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	millstreamv1 "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dataDir = "/data"

var clusterID = []byte("cluster-is-here!")

// cluster is a controller and its metadata, as one broker sees them.
type cluster struct {
	controllerv1.ControllerServiceClient // what a broker does not call

	mirror *metadata.Mirror

	beatMs uint32 // heartbeat interval

	mu         sync.Mutex
	down       bool
	deaf       bool // heartbeats are not answered
	doubled    bool // another broker of the number is alive
	epoch      int64
	revision   int64
	registered []*controllerv1.RegisterBrokerRequest
	beats      []*controllerv1.HeartbeatRequest
	unheard    []*controllerv1.HeartbeatRequest // while it was deaf
	directory  []byte
	pinned     []byte // where the metadata has the replicas, if not in directory
	topics     map[byte]*controllerv1.TopicRecord
	leaderless bool // nobody leads any partition
	generation uint32
	// shape changes the partitions of a topic from what they would be.
	shape  map[byte]func(*controllerv1.PartitionRecord)
	wanted []*controllerv1.WantedLog
	// distrusted shapes topic 1 when a doubt is told; the metadata that says so
	// comes with the answer, or, with late, when somebody publishes it.
	distrusted func(*controllerv1.PartitionRecord)
	late       bool
}

func newCluster() *cluster {
	c := &cluster{beatMs: 500, generation: 1, shape: map[byte]func(*controllerv1.PartitionRecord){}, mirror: metadata.New(metadata.Options{}), topics: map[byte]*controllerv1.TopicRecord{}}
	c.publish(true)
	return c
}

func (c *cluster) RegisterBroker(_ context.Context, r *controllerv1.RegisterBrokerRequest, _ ...grpc.CallOption) (*controllerv1.RegisterBrokerResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, status.Error(codes.Unavailable, "down")
	}
	if c.doubled {
		st, _ := status.New(codes.AlreadyExists, "alive").WithDetails(&millstreamv1.RequestError{
			Reason: millstreamv1.ErrorReason_ERROR_REASON_BROKER_ALIVE,
		})
		return nil, st.Err()
	}
	c.registered = append(c.registered, r)
	c.epoch, c.directory = c.epoch+100, r.GetDirectoryId()
	changes := []*controllerv1.MetadataChange{{Change: &controllerv1.MetadataChange_Broker{
		Broker: &controllerv1.BrokerRecord{BrokerId: r.GetBrokerId(), BrokerEpoch: c.epoch, Address: r.GetAddress(), DirectoryId: r.GetDirectoryId()},
	}}}
	for id, t := range c.topics {
		changes = append(changes, c.partitions(id, t)...)
	}
	c.publishLocked(false, changes...)
	return &controllerv1.RegisterBrokerResponse{
		BrokerEpoch: c.epoch, Revision: c.revision, HeartbeatIntervalMs: c.beatMs, SessionTimeoutMs: 4 * c.beatMs, Eligible: true,
		Cluster: &controllerv1.ClusterRecord{ClusterId: clusterID, Generation: c.generation},
	}, nil
}

func (c *cluster) Heartbeat(_ context.Context, r *controllerv1.HeartbeatRequest, _ ...grpc.CallOption) (*controllerv1.HeartbeatResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, status.Error(codes.Unavailable, "down")
	}
	if c.deaf {
		c.unheard = append(c.unheard, r)
		return nil, status.Error(codes.Unavailable, "deaf")
	}
	if r.GetBrokerEpoch() != c.epoch {
		st, _ := status.New(codes.FailedPrecondition, "stale").WithDetails(&millstreamv1.RequestError{
			Reason: millstreamv1.ErrorReason_ERROR_REASON_STALE_BROKER_EPOCH,
		})
		return nil, st.Err()
	}
	c.beats = append(c.beats, r)
	resp := &controllerv1.HeartbeatResponse{WantedLogs: c.wanted}
	if c.distrusted != nil && doubtsIn(r) > 0 {
		c.shape[1] = c.distrusted
		if resp.Revision = c.revision + 1; !c.late {
			c.publishLocked(false, c.partitions(1, c.topics[1])...)
		}
	}
	resp.Fenced = !r.GetReady() || r.GetRevision() < c.revision
	return resp, nil
}

// publish makes a new revision with changes.
func (c *cluster) publish(snapshot bool, changes ...*controllerv1.MetadataChange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publishLocked(snapshot, changes...)
}

func (c *cluster) publishLocked(snapshot bool, changes ...*controllerv1.MetadataChange) {
	c.revision++
	for _, ch := range changes {
		ch.Revision = c.revision
	}
	if err := c.mirror.Apply(&controllerv1.WatchMetadataResponse{
		SnapshotBegin: snapshot, SnapshotEnd: snapshot, Changes: changes, Revision: c.revision, ClusterGeneration: c.generation,
	}); err != nil {
		panic(err)
	}
}

func topicID(n byte) []byte { return append(make([]byte, 15), n) }

// create makes a topic of broker 1 alone and waits until the broker has carried that out.
func (c *cluster) create(n byte, name string, partitions uint32, config map[string]string) {
	c.announce(n, name, partitions, config)
	synctest.Wait()
}

// announce makes a topic, of which the broker knows before it has done anything
// about it.
func (c *cluster) announce(n byte, name string, partitions uint32, config map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &controllerv1.TopicRecord{TopicId: topicID(n), Topic: name, PartitionCount: partitions, ReplicationFactor: 1, Config: config}
	c.topics[n] = t
	changes := []*controllerv1.MetadataChange{{Change: &controllerv1.MetadataChange_Topic{Topic: t}}}
	c.publishLocked(false, append(changes, c.partitions(n, t)...)...)
}

// partitions are the records of a topic's partitions in this broker epoch.
func (c *cluster) partitions(n byte, t *controllerv1.TopicRecord) []*controllerv1.MetadataChange {
	dir := c.directory
	if c.pinned != nil {
		dir = c.pinned
	}
	leader := int32(1)
	if c.leaderless {
		leader = -1
	}
	var changes []*controllerv1.MetadataChange
	for i := range t.GetPartitionCount() {
		p := &controllerv1.PartitionRecord{
			TopicId: topicID(n), Partition: i, Leader: leader, LeaderEpoch: int32(c.epoch / 100), Replicas: []int32{1},
			DirectoryIds: [][]byte{dir}, InSyncReplicas: []int32{1}, MinInsyncReplicas: 2,
			Disk: t.GetConfig()["durability"] != "memory",
		}
		if f := c.shape[n]; f != nil {
			f(p)
		}
		changes = append(changes, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Partition{Partition: p}})
	}
	return changes
}

// remove deletes a topic.
func (c *cluster) remove(n byte, now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[n]
	delete(c.topics, n)
	c.publishLocked(false, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Deletion{
		Deletion: &controllerv1.DeletionRecord{TopicId: topicID(n), Topic: t.GetTopic(), Now: now, ClusterGeneration: 1},
	}})
}

func (c *cluster) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

func (c *cluster) setDoubled(doubled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doubled = doubled
}

// env is a broker with its cluster and its disk.
type env struct {
	t       *testing.T
	cluster *cluster
	mem     *memfs.FS
	fs      *faultfs.FS
	opts    Options
	b       *Broker
	stop    context.CancelFunc
	ended   chan error
}

func newEnv(t *testing.T) *env {
	mem := memfs.New()
	return &env{t: t, cluster: newCluster(), mem: mem, fs: faultfs.Wrap(mem)}
}

// start runs the broker and waits until it is ready.
func (e *env) start() {
	e.t.Helper()
	e.launch(e.fs)
	synctest.Wait()
	pass(2 * leastPause)
	synctest.Wait()
	if !e.b.Ready() {
		e.t.Fatal("not ready")
	}
}

func (e *env) launch(fsys vfs.FS) {
	e.t.Helper()
	e.build(fsys)
	e.run()
}

// build makes the broker, which does nothing before run.
func (e *env) build(fsys vfs.FS) {
	e.t.Helper()
	o := e.opts
	o.ID, o.DataDir, o.FS, o.Controller, o.Metadata = 1, dataDir, fsys, e.cluster, e.cluster.mirror
	o.Address, o.Logger, o.Registerer = "here:1", slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	if o.BootID == nil {
		o.BootID = func() ID16 { return ID16{7} }
	}
	b, err := New(o)
	if err != nil {
		e.t.Fatal(err)
	}
	e.b = b
}

func (e *env) run() {
	ctx, cancel := context.WithCancel(context.Background())
	e.stop, e.ended = cancel, make(chan error, 1)
	go func() { e.ended <- e.b.Run(ctx) }()
}

// pass lets time pass, in a bubble.
func pass(d time.Duration) {
	<-time.After(d) // fake time: nothing waits
}

// halt stops the broker in order.
func (e *env) halt() error {
	e.stop()
	return <-e.ended
}

func inBubble(t *testing.T, story func(t *testing.T, e *env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer func() {
			if e.stop != nil {
				e.stop()
			}
		}()
		story(t, e)
	})
}

// answer is a request that is waited for.
type answer chan *partition.Request

func (a answer) Complete(r *partition.Request) { a <- r }

// produce appends one record and returns the answered request.
func (e *env) produce(topic string, id uint32, text string) (*partition.Request, error) {
	e.t.Helper()
	p, _, err := e.b.Partition(topic, id)
	if err != nil {
		return nil, err
	}
	return appendTo(p, text)
}

func appendTo(p *partition.Partition, text string) (*partition.Request, error) {
	a := make(answer, 1)
	r := request(text)
	r.Done = a
	if err := p.Append(context.Background(), r); err != nil {
		return nil, err
	}
	<-a
	return r, r.Err
}

func request(text string) *partition.Request {
	b := record.AppendRecord(nil, &record.Record{Value: []byte(text)})
	var v record.Validator
	s, err := v.Validate(record.Pieces{b}, record.Limits{})
	if err != nil {
		panic(err)
	}
	return &partition.Request{Batch: record.Pieces{b}, Summary: s, Acks: partition.AcksAll}
}

func (e *env) mustProduce(topic string, id uint32, text string) *partition.Request {
	e.t.Helper()
	r, err := e.produce(topic, id, text)
	if err != nil {
		e.t.Fatalf("%s not acknowledged: %v", text, err)
	}
	return r
}

// end returns the readable end of a partition.
func (e *env) end(topic string, id uint32) record.Offset {
	e.t.Helper()
	p, _, err := e.b.Partition(topic, id)
	if err != nil {
		e.t.Fatal(err)
	}
	return p.State().HighWatermark
}

func wantError[E error](t *testing.T, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("error is %v (%T), want %T", err, err, e)
	}
	return e
}

func mustBe[E error](t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[E](err); !ok {
		t.Fatalf("error is %v (%T), want %T", err, err, e)
	}
}
