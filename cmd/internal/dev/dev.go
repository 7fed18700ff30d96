package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc/credentials"

	controllerconfig "github.com/millstream-io/millstream/controller/config"
	"github.com/millstream-io/millstream/controller/etcd"
	"github.com/millstream-io/millstream/controller/node"
	"github.com/millstream-io/millstream/controller/reconcile"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/config"
	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/telemetry"
	"github.com/millstream-io/millstream/server/tlsfile"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Options are what a process is run with, beside its settings.
type Options struct {
	// Version of the software.
	Version string
	// Logger is required.
	Logger *slog.Logger
	// OnReady is called once, when produce works.
	OnReady func(Banner)
	// OnTemporary is called with the temporary directory when a dev server has
	// made one. RunDev removes it; a process that ends before RunDev returns
	// has to. nil: nobody is told.
	OnTemporary func(dir string)
}

// RunDev runs a dev server until ctx ends, which is no error, or a part fails.
func RunDev(ctx context.Context, cfg Config, o Options) (err error) {
	reg := telemetry.NewRegistry()
	lis, err := openListeners(&cfg.Serving, o.Logger, reg)
	if err != nil {
		return err
	}
	lis.internal = rpc.ListenInProcess()
	defer lis.close()
	dir, temporary := cfg.DataDir, cfg.DataDir == ""
	if temporary {
		if dir, err = os.MkdirTemp("", "millstream-dev-"); err != nil {
			return fmt.Errorf("temporary directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if o.OnTemporary != nil {
			o.OnTemporary(dir)
		}
	}
	inside := rpc.ListenInProcess()
	controller, err := node.New(node.Options{
		DataDir: filepath.Join(dir, "controller"), Listeners: []net.Listener{inside}, Tick: node.DevTick,
		ReplicationFactor: 1, Logger: o.Logger, Registerer: reg,
	})
	if err != nil {
		return err
	}
	conn, err := inside.Dial()
	if err != nil {
		return err
	}
	controllers, err := newControllers(conn, o.Logger)
	if err != nil {
		return err
	}
	defer controllers.close()
	role, err := newBrokerRole(cfg.broker(dir), o.Version, lis, controllers, o.Logger, reg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, role.close()) }()

	role.wait("the server is starting")
	s := newStages()
	s.start("controller", controller.Run)
	role.start(s)
	err = run(ctx, s, role, func() error {
		topic, err := createTopics(ctx, pb.NewTopicServiceClient(role.conn), cfg.Topics)
		if err != nil {
			return err
		}
		role.wait("")
		o.ready(Banner{
			Version: o.Version, GRPCAddr: lis.grpc.Addr().String(), HTTPAddr: lis.http.Addr().String(),
			DefaultAddr: config.Default().GRPCAddr, TLS: lis.tls != nil, DataDir: dir, Temporary: temporary, Topic: topic,
		})
		return nil
	})
	return directoryError(dir, err)
}

// RunBroker runs a broker until ctx ends, which is no error, or a part fails.
func RunBroker(ctx context.Context, cfg config.Config, o Options) (err error) {
	reg := telemetry.NewRegistry()
	internal, err := internalOfBroker(&cfg, o.Logger, reg)
	if err != nil {
		return err
	}
	lis, err := openListeners(&cfg.Serving, o.Logger, reg)
	if err != nil {
		return err
	}
	defer lis.close()
	lis.internalTLS = internal
	if lis.internal, err = listen("internal-addr", cfg.InternalAddr); err != nil {
		return err
	}
	known, err := broker.KnownControllers(vfs.OS(), cfg.DataDir, cfg.Controllers)
	if err != nil {
		o.Logger.WarnContext(ctx, "it is not known where the controllers were the last time", slog.Any("err", err))
	}
	controllers, err := dialControllers(cfg.Controllers, known, internal, o.Logger)
	if err != nil {
		return err
	}
	defer controllers.close()
	role, err := newBrokerRole(cfg, o.Version, lis, controllers, o.Logger, reg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, role.close()) }()
	s := newStages()
	role.start(s)
	err = run(ctx, s, role, func() error {
		o.ready(Banner{Version: o.Version, GRPCAddr: lis.grpc.Addr().String(), HTTPAddr: lis.http.Addr().String(), InternalAddr: lis.internal.Addr().String(), TLS: lis.tls != nil, DataDir: cfg.DataDir})
		return nil
	})
	return directoryError(cfg.DataDir, err)
}

// run waits until the broker is ready, calls then, waits for the end, and
// stops the stages.
func run(ctx context.Context, s *stages, role *brokerRole, then func() error) error {
	err := s.wait(ctx, role.ready)
	if err == nil {
		err = then()
	}
	if err == nil {
		err = s.wait(ctx, nil)
	}
	if ctx.Err() != nil {
		err = nil // asked to stop
	}
	// A stage that failed is named by both: once is enough.
	if serr := s.stop(); err == nil {
		err = serr
	}
	return err
}

// controllerOptions are what the settings of a controller say.
func controllerOptions(cfg controllerconfig.Config, internal *tlsfile.Source) (node.Options, error) {
	o := node.Options{ID: cfg.ControllerID, DataDir: cfg.DataDir, SessionTimeout: cfg.SessionTimeout, MoveBytes: uint64(cfg.MoveBytes), Join: cfg.Join}
	peers, err := cfg.PeerList()
	if err != nil {
		return o, err
	}
	for _, p := range peers {
		o.Peers = append(o.Peers, etcd.Peer{ID: p.ID, URL: p.URL})
	}
	o.ListenPeers = cfg.PeerListenURL()
	if internal != nil && len(peers) > 0 {
		name := pki.RoleHost(internal.Identity().Cluster, pki.RoleController)
		if err := internal.CheckHost(name); err != nil {
			return o, fmt.Errorf("--internal-tls-cert: %w", err)
		}
		o.PeerTLS = &etcd.TLS{Cert: cfg.InternalTLSCert, Key: cfg.InternalTLSKey, CA: cfg.InternalTLSCA, Name: name}
	}
	if cfg.Recovery == controllerconfig.RecoveryManual {
		o.Recovery = reconcile.RecoveryManual
	}
	from, to, err := cfg.BalanceTimes()
	if err != nil {
		return o, fmt.Errorf("--auto-balance-window: %w", err)
	}
	o.Balance = reconcile.Balance{Off: !cfg.AutoBalance, From: from, To: to}
	return o, nil
}

// RunController runs a controller until ctx ends, which is no error, or it
// fails.
func RunController(ctx context.Context, cfg controllerconfig.Config, o Options) error {
	reg := telemetry.NewRegistry()
	internal, err := internalOfController(&cfg, o.Logger, reg)
	if err != nil {
		return err
	}
	opts, err := controllerOptions(cfg, internal)
	if err != nil {
		return err
	}
	lis, err := listen("addr", cfg.ControllerAddr)
	if err != nil {
		return err
	}
	opts.Serves = cfg.Serves(lis.Addr().String())
	opts.Listeners, opts.Version, opts.Logger, opts.Registerer = []net.Listener{lis}, o.Version, o.Logger, reg
	if internal != nil {
		opts.Server.Credentials, opts.Callers = internal.ServerCredentials(slog.LevelWarn), internal.Peer
		opts.PeerCredentials = func(id int32) credentials.TransportCredentials {
			return internal.ClientCredentialsOf(pki.RoleController, id)
		}
	}
	n, err := node.New(opts)
	if err != nil {
		return errors.Join(err, lis.Close())
	}
	b := Banner{Version: o.Version, GRPCAddr: lis.Addr().String(), DataDir: cfg.DataDir}
	s := newStages()
	if cfg.HTTPAddr != "" {
		web, err := listen("http-addr", cfg.HTTPAddr)
		if err != nil {
			return errors.Join(err, lis.Close())
		}
		b.HTTPAddr = web.Addr().String()
		s.start("status", newStatusPage(web, reg, n.Ready(), o.Logger).run)
	}
	s.start("controller", n.Run)
	if err = s.wait(ctx, n.Ready()); err == nil {
		o.ready(b)
		err = s.wait(ctx, nil)
	}
	if ctx.Err() != nil {
		err = nil
	}
	if serr := s.stop(); err == nil {
		err = serr
	}
	return directoryError(cfg.DataDir, err)
}

func (o *Options) ready(b Banner) {
	if o.OnReady != nil {
		o.OnReady(b)
	}
}

// createTopics creates the topics that do not exist and returns the name of
// one that does.
func createTopics(ctx context.Context, client pb.TopicServiceClient, specs []string) (string, error) {
	for _, s := range specs {
		spec, err := ParseTopic(s)
		if err != nil {
			return "", err
		}
		_, err = client.CreateTopic(ctx, &pb.CreateTopicRequest{Topic: spec.Name, PartitionCount: spec.Partitions})
		if e := rpc.RequestErrorOf(err); err != nil && e.GetReason() != pb.ErrorReason_ERROR_REASON_TOPIC_EXISTS {
			return "", fmt.Errorf("create topic %s: %w", spec.Name, err)
		}
	}
	resp, err := client.ListTopics(ctx, &pb.ListTopicsRequest{PageSize: 1})
	if err != nil {
		return "", fmt.Errorf("list topics: %w", err)
	}
	names := slices.Clone(specs)
	for _, t := range resp.GetTopics() {
		names = append(names, t.GetTopic())
	}
	if len(names) == 0 {
		return "", nil
	}
	spec, err := ParseTopic(names[0])
	return spec.Name, err
}
