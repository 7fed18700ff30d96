package rpc

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

const (
	// A member of the cluster that is not there is tried again soon, and never
	// waited for long: a failover ends no sooner than its connections.
	firstRetry     = 50 * time.Millisecond
	mostRetry      = time.Second
	connectTimeout = 2 * time.Second
	// memberPingAfter is the least that gRPC takes; who needs to know sooner
	// that the other side is silent pings in its stream.
	memberPingAfter   = 10 * time.Second
	memberPingTimeout = 2 * time.Second

	// MemberMaxStreams is how many calls a member may have at a time on a
	// connection to another.
	MemberMaxStreams = 1_000

	// What a broker follows comes on one stream for all partitions of a leader,
	// and what it forwards on few: the windows that gRPC finds by itself begin
	// at 64 KiB and are found anew on each connection, while a push alone may
	// have a MiB.
	memberStreamWindowBytes = 4 << 20
	memberConnWindowBytes   = 16 << 20
)

// MemberOptions returns what connections between brokers and controllers are
// made with: ClientOptions, a short way to notice that the other side is gone,
// and a short way back to it.
func MemberOptions() []grpc.DialOption {
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = firstRetry, mostRetry
	return append(ClientOptions(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: memberPingAfter, Timeout: memberPingTimeout, PermitWithoutStream: true}),
		grpc.WithStaticStreamWindowSize(memberStreamWindowBytes),
		grpc.WithStaticConnWindowSize(memberConnWindowBytes),
		grpc.WithWriteBufferSize(socketBufferBytes),
		// An idle connection would notice nothing.
		grpc.WithIdleTimeout(0),
	)
}
