package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Options are what a broker is made of. They are copied by New.
type Options struct {
	// ID is the broker's identity, from 0.
	ID int32
	// DataDir is the data directory. Required.
	DataDir string
	// FS holds it; the operating system's unless set.
	FS vfs.FS
	// Controller is where the broker registers. Required.
	Controller controllerv1.ControllerServiceClient
	// Metadata is the mirror of the metadata; somebody else runs it. Required.
	Metadata *metadata.Mirror

	// Peers is the way to the other brokers; nil: there is none.
	Peers Peers

	// Address is where clients reach the broker.
	Address string
	// InternalAddress is where brokers reach it.
	InternalAddress string
	// Rack is where it stands.
	Rack string
	// Version is that of the software.
	Version string

	// Callers says which broker calls; nil: there are no certificates.
	Callers caller.Func
	// ReplicaLag is how long a replica may be behind and stay in sync; 10 s unless
	// set.
	ReplicaLag time.Duration

	// Audit returns who is told what the replica of a partition does; nil: nobody
	// is told of any.
	Audit func(topic string, partition uint32) partition.Auditor
	// AuditGone is told that the log of a replica was moved to the trash, since
	// others have its records, before another is begun; nil: nobody is told.
	AuditGone func(topic string, partition uint32)
	// ScrubBytes is how many bytes of logs are read a second to find damage; 0:
	// none.
	ScrubBytes int64
	// ScrubRound is how much time is between the beginnings of two rounds over all
	// logs, at least; 1 h unless set.
	ScrubRound time.Duration

	// SlowDisk is how long writes and syncs take on a disk from which on others are
	// to lead, where theirs are quicker; 0: none is too slow.
	SlowDisk time.Duration
	// MaxSyncs is how many syncs run at once; 64 unless set.
	MaxSyncs int
	// MaxOpenFiles bounds the segments that are open or mapped; 8,192 unless
	// set, and a third of the descriptors that the process may have at most.
	// More costs descriptors, less costs opening, and syncs where more
	// partitions than that are written to at MEMORY.
	MaxOpenFiles int
	// InFlightBytes is the budget for produce requests; 256 MiB unless set.
	InFlightBytes int64
	// Mailbox bounds what one partition holds.
	Mailbox partition.Limits
	// IdleAfter is how long a partition keeps its goroutine and files without
	// work; 1 s unless set. At MEMORY the file with what is not synced stays open
	// until it is.
	IdleAfter time.Duration
	// RetentionInterval is how often retention looks for what may go; 30 s
	// unless set.
	RetentionInterval time.Duration
	// CheckpointInterval is how often checkpoints are synced; 1 s unless set.
	CheckpointInterval time.Duration
	// MemorySyncInterval is how often logs of topics with durability MEMORY are
	// synced in the background; 10 s unless set. Less is less to lose with the
	// power, and more work for the disk.
	MemorySyncInterval time.Duration
	// TrashKeep is how long a deleted log is kept; 24 h unless set.
	TrashKeep time.Duration
	// DiskHighWater is the fraction of the disk above which the trash is
	// emptied sooner; 0.9 unless set.
	DiskHighWater float64

	// Now is the time of day, for appends and, with caution, for retention;
	// time.Now unless set.
	Now func() time.Time
	// BootID tells one boot of the machine from the next; BootID unless set.
	BootID func() ID16
	// MadeAt tells a file from a copy of it; MadeAt unless set.
	MadeAt func(path string) string
	// Logger takes changes of state; slog.Default unless set.
	Logger *slog.Logger
	// Registerer takes the metrics; nil: nobody.
	Registerer prometheus.Registerer
}

// Peers is the way to the other brokers, and says which of them could not be
// reached; *peers.Peers is one.
type Peers interface {
	// Conn returns a connection to a broker, which belongs to Peers.
	Conn(broker int32) (*grpc.ClientConn, error)
	// Lost is sent to when there is something for Unreachable to return.
	Lost() <-chan struct{}
	// Unreachable returns the brokers that were lost since it was last called,
	// in the epochs they had; at most 64.
	Unreachable() []*controllerv1.UnreachableBroker
}

// noPeers is a broker's that knows no others.
type noPeers struct{}

// Conn is part of Peers.
func (noPeers) Conn(broker int32) (*grpc.ClientConn, error) {
	return nil, fmt.Errorf("broker %d: there is no way to other brokers", broker)
}

// Lost is part of Peers.
func (noPeers) Lost() <-chan struct{} { return nil }

// Unreachable is part of Peers.
func (noPeers) Unreachable() []*controllerv1.UnreachableBroker { return nil }

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.ScrubRound <= 0 {
		o.ScrubRound = time.Hour
	}
	if o.ReplicaLag <= 0 {
		o.ReplicaLag = 10 * time.Second
	}
	if o.Peers == nil {
		o.Peers = noPeers{}
	}
	if o.MaxSyncs <= 0 {
		o.MaxSyncs = 64
	}
	if o.MaxOpenFiles <= 0 {
		o.MaxOpenFiles = 8192
	}
	if o.InFlightBytes <= 0 {
		o.InFlightBytes = 256 << 20
	}
	if o.IdleAfter <= 0 {
		o.IdleAfter = time.Second
	}
	if o.RetentionInterval <= 0 {
		o.RetentionInterval = 30 * time.Second
	}
	if o.CheckpointInterval <= 0 {
		o.CheckpointInterval = time.Second
	}
	if o.MemorySyncInterval <= 0 {
		o.MemorySyncInterval = 10 * time.Second
	}
	if o.TrashKeep <= 0 {
		o.TrashKeep = 24 * time.Hour
	}
	if o.DiskHighWater <= 0 {
		o.DiskHighWater = 0.9
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MadeAt == nil {
		o.MadeAt = MadeAt
	}
	if o.BootID == nil {
		o.BootID = BootID
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.ID < 0:
		return fmt.Errorf("broker id %d: must not be negative", o.ID)
	case o.DataDir == "":
		return errors.New("broker: no data directory")
	case o.Controller == nil || o.Metadata == nil:
		return errors.New("broker: no controller or no metadata")
	case o.DiskHighWater > 1:
		return fmt.Errorf("disk high water %v: must be at most 1", o.DiskHighWater)
	}
	return nil
}
