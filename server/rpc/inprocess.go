package rpc

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/test/bufconn"
)

// InProcess is a listener that only its own process can reach: how the REST
// gateway, and the roles of a process that has several, speak gRPC to each
// other by the same code as over a network.
type InProcess struct{ *bufconn.Listener }

// inProcessBuffer is what a connection holds in each direction before a
// writer waits; small, since both ends run in one process.
const inProcessBuffer = 64 << 10

// inProcessNetwork is the network that addresses of an InProcess name.
const inProcessNetwork = "bufconn"

// ListenInProcess returns a new listener. The server that serves it closes
// it.
func ListenInProcess() *InProcess {
	return &InProcess{Listener: bufconn.Listen(inProcessBuffer)}
}

// Dial returns a client connection to the listener. The caller closes it.
func (l *InProcess) Dial(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts = append(append(ClientOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		})), opts...)
	return grpc.NewClient("passthrough:///in-process", opts...)
}

// ClientOptions returns what every internal client connection is made with:
// the buffer pool, no configuration from DNS, and messages as large as
// servers send.
func ClientOptions() []grpc.DialOption {
	return []grpc.DialOption{
		experimental.WithBufferPool(&sharedPool),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Codec()), grpc.MaxCallRecvMsgSize(DefaultMaxRequestBytes)),
	}
}
