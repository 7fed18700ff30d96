// Package image keeps in memory what the metadata store holds, as the watch
// of the store brings it. Controllers, active or not, read from it: the
// active one to plan, all of them to serve the watches of brokers.
//
// It refuses to own decisions and writes: it only follows.
//
// INVARIANT: whoever reads sees the store at one revision, whole, and a
// message that it has seen never changes.
//
// Goroutines: Run is one and the only writer. Nothing must be closed.
package image

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/store"
)

// Versioned is a message and the revision of its last change.
type Versioned[M proto.Message] struct {
	// Record is read only; nil if there is none.
	Record M
	// Revision of the last change; 0: there is none.
	Revision int64
}

// Short names of what there is many of.
type (
	// Broker is a broker with its revision.
	Broker = Versioned[*controllerv1.BrokerRecord]
	// Partition is a partition with its revision.
	Partition = Versioned[*controllerv1.PartitionRecord]
)

// Topic is a topic, or the intent of one, with its partitions.
type Topic struct {
	Versioned[*controllerv1.TopicRecord]
	// Partitions are in order; one that is not there yet has no record.
	Partitions []Partition
}

// Name is a name that is taken.
type Name struct {
	Topic    store.TopicID
	Revision int64
}

// View is the metadata at one revision. It is valid, and read only, during
// the call that it was given to.
type View struct {
	// Revision of the last change.
	Revision int64
	// Active is who is active, as of that revision.
	Active store.Active
	// Cluster has no record until the first active controller has made one.
	Cluster Versioned[*controllerv1.ClusterRecord]
	// Brokers by identity.
	Brokers map[int32]Broker
	// Served is the last incarnation of a broker that was unfenced on a
	// directory.
	Served map[store.Key]Broker
	// Topics by identity.
	Topics map[store.TopicID]*Topic
	// Names are those of topics and intents.
	Names map[string]Name
	// Intents are topics that are being created.
	Intents map[store.TopicID]*Topic
	// Deletions by the identity of the topic.
	Deletions map[store.TopicID]*controllerv1.DeletionRecord
	// Answers to requests that had an id.
	Answers map[store.RequestID]Versioned[proto.Message]
	// Partitions is the number of partitions of topics and intents.
	Partitions int
}

// TopicByName returns the topic of that name, nil if there is none.
func (v *View) TopicByName(name string) *Topic {
	n, ok := v.Names[name]
	if !ok {
		return nil
	}
	return v.Topics[n.Topic]
}

func newView() View {
	return View{
		Active:    store.Active{ControllerID: -1},
		Brokers:   map[int32]Broker{},
		Served:    map[store.Key]Broker{},
		Topics:    map[store.TopicID]*Topic{},
		Names:     map[string]Name{},
		Intents:   map[store.TopicID]*Topic{},
		Deletions: map[store.TopicID]*controllerv1.DeletionRecord{},
		Answers:   map[store.RequestID]Versioned[proto.Message]{},
	}
}

// Image is the View that follows the store, and the history of its changes.
type Image struct {
	kv     store.KV
	logger *slog.Logger

	mu      sync.RWMutex  // guards view, history and changed
	view    View          // written by Run alone
	history history       // written by Run alone
	changed chan struct{} // closed and replaced after each change

	hashed atomic.Pointer[hashed] // the last that was asked for; nil: none was
}

// New returns an image that knows nothing. It starts nothing.
func New(kv store.KV, logger *slog.Logger) *Image {
	return &Image{kv: kv, logger: logger, view: newView(), changed: make(chan struct{})}
}

// Read calls f with the current view.
func (i *Image) Read(f func(v *View)) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	f(&i.view)
}

// Revision returns that of the last change.
func (i *Image) Revision() int64 {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.view.Revision
}

// Changed returns a channel that is closed at the next change.
func (i *Image) Changed() <-chan struct{} {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.changed
}

// Wait returns when the image has reached the revision, or with the cause of
// the end of ctx.
func (i *Image) Wait(ctx context.Context, revision int64) error {
	for {
		changed := i.Changed()
		at := i.Revision()
		if at >= revision {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for revision %d, at %d: %w", revision, at, context.Cause(ctx))
		}
	}
}
