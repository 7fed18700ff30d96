package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // requests may come compressed
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
)

const (
	// DefaultMaxRequestBytes is the largest message that a server takes: what
	// gRPC clients accept by default in the other direction.
	DefaultMaxRequestBytes = 4 << 20
	// DefaultMaxStreams is how many calls a connection may have at a time;
	// more wait in the client.
	DefaultMaxStreams = 128
	// DefaultMaxConnections is how many connections a server has at a time.
	DefaultMaxConnections = 10_000
	// DefaultUnaryTimeout bounds unary calls whose client sets no deadline.
	DefaultUnaryTimeout = 30 * time.Second
	// StopTimeout is how long Stop waits for calls before it cuts them.
	StopTimeout = 3 * time.Second

	// What is received and not read by a stream is held in memory, so a window
	// bounds what a peer can make the server hold. Greater windows gained
	// nothing on a loopback; a message larger than its window still passes,
	// as gRPC widens the window for it.
	streamWindowBytes = 1 << 20
	connWindowBytes   = 4 << 20
	socketBufferBytes = 256 << 10
	// TLS hands over a record at a time, 16 KiB at most, and its connections
	// hold their buffer while they wait: a larger one would stay empty.
	tlsReadBytes = 16 << 10

	maxHeaderListBytes = 16 << 10
	handshakeTimeout   = 10 * time.Second

	// A dead peer is found out after pingAfter + pingTimeout of silence.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
	// MemberPingAfter is the least that gRPC takes. It is for what brokers serve to
	// each other: whoever leads has to know of a follower that is cut off as soon
	// as that one does, after 3 s.
	MemberPingAfter = time.Second
	// MemberPingTimeout is how long such a ping may take.
	MemberPingTimeout = 2 * time.Second
	// DefaultMinPingInterval is how often clients may ping.
	DefaultMinPingInterval = 10 * time.Second
	// MemberMinPingInterval is how often processes of the cluster may: half of
	// what their connections do (MemberOptions), since pings are late and early.
	MemberMinPingInterval = 5 * time.Second
)

// Options say how a server is built. The zero value of a field stands for its
// default.
type Options struct {
	// Name tells the servers of a process apart in metrics and logs: `public`,
	// `controller`. Required.
	Name string
	// Logger is required.
	Logger *slog.Logger
	// Registerer receives the server's metrics; nil: none are registered.
	Registerer prometheus.Registerer
	// FaultOf says how an error of a service is told to clients; nil result or
	// nil function: INTERNAL. Faults and gRPC statuses pass as they are.
	FaultOf func(error) *Fault
	// Credentials; nil: plain text. Connections within the process
	// (ListenInProcess) are plain text always.
	Credentials credentials.TransportCredentials
	// Authorize says why a call is not allowed, before anything else is done
	// for it, by any method of any service; nil: every call is.
	Authorize func(ctx context.Context, method string) error
	// MaxRequestBytes is the largest message taken.
	MaxRequestBytes int
	// MaxStreams is how many calls a connection may have at a time.
	MaxStreams uint32
	// MaxConnections is how many connections there may be at a time, on each
	// listener; more wait to be accepted.
	MaxConnections int
	// UnaryTimeout bounds unary calls whose client sets no deadline.
	UnaryTimeout time.Duration
	// MinPingInterval is how often a client may ping; one that does so more
	// often is disconnected.
	MinPingInterval time.Duration
	// PingAfter is how long a connection says nothing before it is pinged, and
	// PingTimeout how long that may take before it is ended.
	PingAfter, PingTimeout time.Duration
	// StopTimeout is how long Stop waits for calls before it cuts them.
	StopTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = DefaultMaxStreams
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.UnaryTimeout == 0 {
		o.UnaryTimeout = DefaultUnaryTimeout
	}
	if o.MinPingInterval == 0 {
		o.MinPingInterval = DefaultMinPingInterval
	}
	if o.PingAfter == 0 {
		o.PingAfter = pingAfter
	}
	if o.PingTimeout == 0 {
		o.PingTimeout = pingTimeout
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = StopTimeout
	}
	if o.FaultOf == nil {
		o.FaultOf = func(error) *Fault { return nil }
	}
	if o.Authorize == nil {
		o.Authorize = func(context.Context, string) error { return nil }
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.Name == "":
		return errors.New("rpc server: Name is required")
	case o.Logger == nil:
		return errors.New("rpc server: Logger is required")
	case o.MaxRequestBytes < 0, o.MaxConnections < 0, o.UnaryTimeout < 0, o.MinPingInterval < 0, o.PingAfter < 0, o.PingTimeout < 0, o.StopTimeout < 0:
		return errors.New("rpc server: limits may not be negative")
	}
	return nil
}

// transportOptions returns the settings of gRPC's transport.
func (o Options) transportOptions() []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{pool: &sharedPool}),
		experimental.BufferPool(&sharedPool),
		// Between the two limits a message still gets a typed error.
		grpc.MaxRecvMsgSize(2 * o.MaxRequestBytes),
		grpc.MaxConcurrentStreams(o.MaxStreams),
		grpc.MaxHeaderListSize(maxHeaderListBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.StaticStreamWindowSize(streamWindowBytes),
		grpc.StaticConnWindowSize(connWindowBytes),
		grpc.WriteBufferSize(socketBufferBytes),
		grpc.ReadBufferSize(socketBufferBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: o.PingAfter, Timeout: o.PingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.MinPingInterval, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.InTapHandle(refuseSubtypes),
	}
	if o.Credentials != nil {
		opts = append(opts, grpc.Creds(exceptInProcess{o.Credentials}), grpc.ReadBufferSize(tlsReadBytes))
	}
	return opts
}

// exceptInProcess lets connections within the process do without TLS.
type exceptInProcess struct {
	credentials.TransportCredentials
}

// ServerHandshake is part of credentials.TransportCredentials.
func (e exceptInProcess) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	// Which listener accepted a connection is known to this package alone:
	// nothing that comes over a network can make itself one of these.
	if c, ok := conn.(interface{ isInProcess() bool }); ok && c.isInProcess() {
		return insecure.NewCredentials().ServerHandshake(conn)
	}
	return e.TransportCredentials.ServerHandshake(conn)
}

// Clone is part of credentials.TransportCredentials.
func (e exceptInProcess) Clone() credentials.TransportCredentials {
	return exceptInProcess{e.TransportCredentials.Clone()}
}
