package millstream

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/millstream-io/millstream/clients/go/internal/alive"
	"github.com/millstream-io/millstream/clients/go/internal/transport"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// DefaultAddr is where a broker listens unless told otherwise.
const DefaultAddr = "127.0.0.1:9650"

// Sizes of the transport, measured to let one stream use a connection fully.
const (
	streamWindow = 8 << 20
	connWindow   = 16 << 20
	ioBuffer     = 256 << 10
	// maxMessage is the largest message accepted: what the server promises
	// never to exceed.
	maxMessage = 4 << 20
)

// Reconnecting: gRPC's own waits, and those between attempts to open a
// stream.
const (
	backoffMin = 20 * time.Millisecond
	backoffMax = time.Second
)

// Options say how to reach a cluster. The zero Options reach a broker on this
// machine.
type Options struct {
	// Addr is the HOST:PORT of any broker, several of them separated by commas,
	// or a gRPC target, as for [Dial]. Each of them serves everything: with
	// several the client goes on when one is lost. DefaultAddr if empty.
	Addr string
	// OnlyAddr has everything asked of the brokers at Addr. Otherwise producers
	// and readers ask the leader of a partition itself, at the address that it is
	// advertised with, if it can be reached there: the way is shorter.
	OnlyAddr bool
	// TLSCA is a PEM file of the authorities whose certificates of brokers are
	// accepted; it is read by New. Empty: those of TLS.
	TLSCA string
	// TLS is how to secure the connection. nil: it is secured only with TLSCA;
	// new(tls.Config): with the authorities that this system trusts.
	TLS *tls.Config
	// Logger is told of lost streams and of retries. nil: nobody.
	Logger *slog.Logger
	// DialOptions are added to those of the client.
	DialOptions []grpc.DialOption
}

// Client is a connection to a cluster. It may be used by any number of
// goroutines.
type Client struct {
	conn    *grpc.ClientConn
	endConn func() error // closes conn
	lines   alive.Lines
	// addr is the only one that conn may have gone to; empty: there are several.
	addr     string
	addrs    []string // all that conn may go to, if it was told several
	onlyAddr bool
	leaders  leaders

	logger *slog.Logger
	pool   *transport.Pool
	// ctx ends when the client is closed; every producer and reader derives
	// its own from it.
	ctx    context.Context //nolint:containedctx // the life of the client, not of a call.
	cancel context.CancelFunc
	// open counts the goroutines of producers and readers, and its own.
	open   sync.WaitGroup
	closed sync.Once

	mu       sync.Mutex    // guards departed
	departed chan struct{} // closed, and replaced, when the connection is gone
}

// New returns a client. It connects when it is first used; Close it. It fails
// with a *[TLSCAError] when TLSCA cannot be used, and with an
// *[InvalidAddressError] when Addr lists what is no address.
func New(o Options) (*Client, error) {
	if o.Addr == "" {
		o.Addr = DefaultAddr
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	creds, err := o.credentials()
	if err != nil {
		return nil, err
	}
	pool := new(transport.Pool)
	opts := []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithReadBufferSize(ioBuffer),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		experimental.WithBufferPool(pool),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: backoffMin, Multiplier: 2, Jitter: 0.2, MaxDelay: backoffMax},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	opts = append(opts, o.DialOptions...)
	c := &Client{onlyAddr: o.OnlyAddr, logger: o.Logger, pool: pool, departed: make(chan struct{})}
	dial := func(addr string) (*grpc.ClientConn, func() error, error) {
		return c.lines.Dial(creds, func(own ...grpc.DialOption) (*grpc.ClientConn, error) {
			return Dial(addr, slices.Concat(own, opts)...) // the user's are last
		})
	}
	if c.conn, c.endConn, err = dial(o.Addr); err != nil {
		return nil, err
	}
	if !strings.Contains(o.Addr, ",") {
		c.addr = o.Addr
	} else {
		for part := range strings.SplitSeq(o.Addr, ",") {
			c.addrs = append(c.addrs, strings.TrimSpace(part))
		}
	}
	// The address is of one broker: whatever its name resolves to is the same.
	c.leaders.dial = func(addr string) (*grpc.ClientConn, func() error, error) { return dial("passthrough:///" + addr) }
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.open.Go(c.watch)
	c.open.Go(func() { c.lines.Run(c.ctx) })
	return c, nil
}

// Close closes the connection and ends every producer and reader that is
// still open; records that were not acknowledged fail. Close producers first
// to have theirs sent.
func (c *Client) Close() {
	c.closed.Do(func() {
		c.cancel()
		c.open.Wait()
		if err := c.endConn(); err != nil {
			c.logger.Warn("closing the connection", "err", err)
		}
	})
}

// Topics returns the generated stub that administers topics. [ErrorOf] reads
// its errors.
func (c *Client) Topics() pb.TopicServiceClient { return pb.NewTopicServiceClient(c.conn) }

// Cluster returns the generated stub that describes the cluster.
func (c *Client) Cluster() pb.ClusterServiceClient { return pb.NewClusterServiceClient(c.conn) }

// Broker returns the generated stub with the unary Append and with Read.
func (c *Client) Broker() pb.BrokerServiceClient { return pb.NewBrokerServiceClient(c.conn) }

// Conn returns the connection, for stubs generated elsewhere.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// topic describes a topic.
func (c *Client) topic(ctx context.Context, op, name string) (*pb.Topic, error) {
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	r, err := c.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: name, MetadataOnly: true})
	if err != nil {
		return nil, ErrorOf(op, name, err)
	}
	return r.GetTopic(), nil
}

// openStream opens one of the two bidirectional streams, whose hot messages
// are *transport.Outgoing and *transport.Incoming.
func openStream(ctx context.Context, conn *grpc.ClientConn, method string) (grpc.ClientStream, error) {
	desc := grpc.StreamDesc{StreamName: method, ClientStreams: true, ServerStreams: true}
	return conn.NewStream(ctx, &desc, method, grpc.ForceCodecV2(transport.Codec{}))
}
