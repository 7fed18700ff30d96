// Package etcd runs the embedded etcd member of a controller and gives the
// controllers' metadata store over it. It is the only package that knows etcd.
//
// It refuses to own what is kept in the store: it moves bytes under keys.
//
// INVARIANT: nobody outside the process can reach the store: the member has
// no listener for clients, and one for peers only when there are peers.
//
// Goroutines: etcd's own, and one that waits for their end, started by Open and
// gone when Close returns; but for a store that is broken (BrokenError), whose
// goroutines end with the process. Who opens a member closes it.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"github.com/millstream-io/millstream/controller/store"
)

const (
	// walSegmentBytes is what etcd allocates for each file of its log, two at
	// a time: 64 MB by default, more than the metadata of most clusters.
	walSegmentBytes = 8 << 20
	// quotaBytes bounds the store; 10,000 partitions take about 5 MiB.
	quotaBytes = 2 << 30
	// roomTenths of the quota may be used before nothing new is taken: what keeps
	// a cluster going needs the rest.
	roomTenths = 7
	// reservedBytes of disk are taken for the store when it is opened, so that
	// what must be written can be on a disk that others have filled: etcd ends
	// the process when it cannot. Nothing new is taken when that much is not
	// free besides.
	reservedBytes = 8 << 20
	// slowRead is when etcd warns of a read: not of one that merely waited for
	// the first election, as every start's does.
	slowRead = time.Second
	// history is for how long old revisions are kept.
	history = time.Hour
	// aloneURL stands for the address of a member that has no peers. Nobody
	// listens there nor dials it, but etcd wants one.
	aloneURL = "http://alone.invalid:2380"
	dirPerm  = 0o700
)

// Peer is a member of the quorum.
type Peer struct {
	// ID is the controller's identity.
	ID int32
	// URL is where its peers reach it.
	URL string
}

// TLS is the certificate of a member, in PEM files. Certificate and key are
// read for each connection, the authorities once: see Member.StaleAuthorities.
type TLS struct {
	Cert, Key string
	// CA has the authorities of members.
	CA string
	// Name is a DNS name that the certificates of all members have, and those
	// of nobody else.
	Name string
}

// Options are what a member needs.
type Options struct {
	// ID is the controller's identity, from 0.
	ID int32
	// Dir holds the member's files and nothing else.
	Dir string
	// Peers are all members, this one included; none: it is alone.
	Peers []Peer
	// ListenPeers is where the member listens for its peers; empty if alone.
	ListenPeers string
	// Serves is HOST:PORT where the controller serves brokers, which all members
	// are told; empty: nobody is.
	Serves string
	// TLS is how members know each other; nil: they do not, and speak plain
	// text.
	TLS *TLS
	// Join says that the others are running, and have been told of this one by
	// Member.AddLearner.
	Join bool
	// Tick is the heartbeat of raft and a tenth of the election timeout; 0:
	// 100 ms. A single member in dev uses 10 ms.
	Tick time.Duration
	// Logger is required. etcd's own reports come at a level lower.
	Logger *slog.Logger

	quota int64 // of the store, for tests; 0: quotaBytes
}

func (o Options) validate() error {
	switch {
	case o.ID < 0:
		return fmt.Errorf("controller id %d is negative", o.ID)
	case o.Dir == "":
		return errors.New("the controller needs a directory")
	case o.Logger == nil:
		return errors.New("the controller needs a logger")
	case len(o.Peers) == 0:
		return nil
	case o.TLS != nil && (o.TLS.Cert == "" || o.TLS.Key == "" || o.TLS.CA == "" || o.TLS.Name == ""):
		return errors.New("a controller's TLS needs a certificate, its key, authorities and a name")
	case o.ListenPeers == "":
		return errors.New("a controller with peers needs an address to listen for them")
	case !slices.ContainsFunc(o.Peers, func(p Peer) bool { return p.ID == o.ID }):
		return fmt.Errorf("controller %d is not among the peers", o.ID)
	}
	return nil
}

// Member is a running etcd member. Its methods may be called from any
// goroutine.
type Member struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	logger *slog.Logger
	quota  int64
	dir    string
	scheme string // of the addresses of peers; empty: it can have none
	closed sync.Once
	broken *breaker
	failed chan struct{} // closed when etcd has ended, or is broken
	// trusted is Maintain's but for what never changes.
	trusted authorities
}

// smallWAL sets what etcd has as a variable of its package, once.
var smallWAL = sync.OnceFunc(func() { wal.SegmentSizeBytes = walSegmentBytes })

// Open starts a member. It fails with *InUseError when another process has the
// directory, with *InterruptedError when it is not wholly restored, and with
// *BrokenError when its disk does not do as it must; then the directory is in
// use until the process ends. It does not wait for a leader.
func Open(o Options) (*Member, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	smallWAL()
	if err := os.MkdirAll(o.Dir, dirPerm); err != nil {
		return nil, fmt.Errorf("make the controller's directory: %w", err)
	}
	lock, err := lockDir(filepath.Join(o.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(o.Dir, restoring)); err == nil {
		return nil, errors.Join(&InterruptedError{Dir: o.Dir}, lock.Close())
	}
	b := newBreaker(o.Dir, lock, o.Logger)
	m, err := o.start(b)
	if err != nil && !b.isBroken() {
		err = errors.Join(err, lock.Close())
	}
	return m, err
}

// start starts etcd. It ends nothing if it is broken meanwhile.
func (o Options) start(b *breaker) (*Member, error) {
	cfg, err := o.config()
	if err != nil {
		return nil, err
	}
	trusted, err := readAuthorities(o.TLS)
	if err != nil {
		return nil, err
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(newSlogCore(o.Logger), zap.WithFatalHook(b), zap.WithPanicHook(b)))
	_, fresh := os.Stat(filepath.Join(cfg.Dir, "member"))
	var e *embed.Etcd
	err = b.unlessBroken(func() (err error) {
		started, err := embed.StartEtcd(cfg)
		if err == nil {
			e = started
		}
		return err
	})
	if _, broken := errors.AsType[*BrokenError](err); broken {
		return nil, err // which says all of it
	}
	if err != nil {
		return nil, fmt.Errorf("start the metadata store in %s: %w", o.Dir, err)
	}
	if fresh == nil && len(o.Peers) > 1 {
		// WHY: etcd would do it before it answers others. When all start at once,
		// as after a power cut, each would then wait for the answers of all
		// others, until it gives up on each: 7 s for each of them.
		if err := b.unlessBroken(e.Server.CorruptionChecker().InitialCheck); err != nil {
			_ = b.unlessBroken(func() error { e.Close(); return nil })
			return nil, fmt.Errorf("compare the metadata store in %s with the others': %w", o.Dir, err)
		}
	}
	if err := reserve(filepath.Join(cfg.Dir, "member", "snap", "db"), reservedBytes); err != nil {
		o.Logger.Warn("no disk space is reserved for the metadata store", slog.Any("err", err))
	}
	scheme := ""
	if len(o.Peers) > 0 {
		scheme = cfg.AdvertisePeerUrls[0].Scheme
	}
	m := &Member{
		etcd: e, scheme: scheme, client: v3client.New(e.Server), logger: o.Logger, quota: cfg.QuotaBackendBytes, dir: o.Dir,
		trusted: trusted, broken: b, failed: make(chan struct{}),
	}
	go func() {
		defer close(m.failed)
		select {
		case <-e.Server.StopNotify():
		case <-b.broken:
		}
	}()
	return m, nil
}

func (o Options) config() (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name = memberName(o.ID)
	cfg.Dir = filepath.Join(o.Dir, "etcd")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, nil
	if o.Serves != "" {
		// etcd serves nobody there: what it tells its members is free to be used.
		cfg.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: o.Serves}}
	}
	tick := o.Tick
	if tick == 0 {
		tick = 100 * time.Millisecond
	}
	cfg.TickMs, cfg.ElectionMs = uint(tick.Milliseconds()), uint(10*tick.Milliseconds())
	cfg.QuotaBackendBytes = quotaBytes
	if o.quota != 0 {
		cfg.QuotaBackendBytes = o.quota
	}
	// A store that differs from the others' is found out at the start (see Open)
	// and at each compaction, and its member stops.
	gate, ok := cfg.ServerFeatureGate.(interface{ Set(string) error })
	if !ok {
		return nil, errors.New("the metadata store takes no features")
	}
	if err := gate.Set("CompactHashCheck=true"); err != nil {
		return nil, fmt.Errorf("check the metadata store for corruption: %w", err)
	}
	if o.Join {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	cfg.WarningApplyDuration = slowRead
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", history.String()
	cfg.InitialClusterToken = "millstream"
	peers := o.Peers
	if len(peers) == 0 {
		peers = []Peer{{ID: o.ID, URL: aloneURL}}
	}
	var members []string
	for _, p := range peers {
		u, err := url.Parse(p.URL)
		if err != nil {
			return nil, fmt.Errorf("address of controller %d: %w", p.ID, err)
		}
		if p.ID == o.ID {
			cfg.AdvertisePeerUrls = []url.URL{*u}
		}
		members = append(members, memberName(p.ID)+"="+p.URL)
	}
	cfg.InitialCluster = strings.Join(members, ",")
	if o.TLS != nil {
		cfg.PeerTLSInfo = transport.TLSInfo{
			CertFile: o.TLS.Cert, KeyFile: o.TLS.Key, TrustedCAFile: o.TLS.CA, ClientCertAuth: true,
			AllowedHostnames: []string{o.TLS.Name}, // checked by both sides
			// The address that a connection comes from says nothing more.
			SkipClientSANVerify: true,
		}
		cfg.TlsMinVersion = string(tlsutil.TLSVersion13)
	}
	cfg.ListenPeerUrls = nil
	if o.ListenPeers != "" {
		u, err := url.Parse(o.ListenPeers)
		if err != nil {
			return nil, fmt.Errorf("address to listen for peers: %w", err)
		}
		cfg.ListenPeerUrls = []url.URL{*u}
	}
	return cfg, nil
}

const memberForm = "controller-%d"

func memberName(id int32) string { return fmt.Sprintf(memberForm, id) }

// Leadership returns the raft term of the last entry applied, and whether the
// member leads now.
func (m *Member) Leadership() (term uint64, leading bool) {
	s := m.etcd.Server
	term = s.Term()
	return term, s.Leader() == s.MemberID()
}

// LeaderKnown reports whether any member leads raft now.
func (m *Member) LeaderKnown() bool { return m.etcd.Server.Lead() != 0 }

// LeadershipChanged returns a channel that is closed at the next change of the
// leader. Ask for it before Leadership, to miss none.
func (m *Member) LeadershipChanged() <-chan struct{} { return m.etcd.Server.LeaderChangedNotify() }

// Failed returns a channel that is closed when the member stops by itself.
func (m *Member) Failed() <-chan struct{} { return m.failed }

// Failure says why it did: a *BrokenError or a *RemovedError.
//
// REQUIRES: Failed is closed.
func (m *Member) Failure() error {
	if m.broken.isBroken() {
		return m.broken.cause
	}
	return &RemovedError{Dir: m.dir}
}

// RemovedError says that the others have taken the controller out: by a command,
// or because its store differed from theirs. It is the one thing for which etcd
// stops in order without being asked to.
type RemovedError struct {
	// Dir is the directory of the store, which is of no use any more.
	Dir string
}

// Error says it for people.
func (e *RemovedError) Error() string {
	return fmt.Sprintf("this controller is none of the quorum any more: it was taken out, and what is in %s is of no use; "+
		"to have it back, add it (millstream cluster controllers add) and start it with --join on an empty --data-dir", e.Dir)
}

// StoredBytes returns the size of the store on disk, in bytes.
func (m *Member) StoredBytes() int64 { return m.etcd.Server.Backend().Size() }

// Room returns nil if there is room for new things to keep. It fails with
// store.ErrFull or store.ErrDiskFull.
func (m *Member) Room() error {
	if n := m.StoredBytes(); n > m.quota/10*roomTenths {
		return fmt.Errorf("%w: it has %d bytes of %d", store.ErrFull, n, m.quota)
	}
	free, err := freeBytes(m.dir)
	if err != nil {
		return err
	}
	if free < reservedBytes {
		return fmt.Errorf("%w: %d bytes are free", store.ErrDiskFull, free)
	}
	return nil
}

// Close stops the member and waits until its goroutines have ended. With
// peers it hands leadership over first. Watches end with an error. Of a store
// that is broken nothing is stopped: it ends with the process, which has its
// directory until then.
func (m *Member) Close() error {
	var err error
	m.closed.Do(func() {
		err = m.client.Close()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		if m.broken.isBroken() {
			return // Failure said why
		}
		if berr := m.broken.unlessBroken(func() error { m.etcd.Close(); return nil }); berr != nil {
			err = errors.Join(err, berr)
			return
		}
		<-m.failed
		err = errors.Join(err, m.broken.lock.Close())
	})
	return err
}
