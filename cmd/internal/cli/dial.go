package cli

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/server/telemetry"
)

const (
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// callTimeout bounds calls that answer at once.
	callTimeout = 30 * time.Second
	// maxAnswerBytes is the largest message taken from a server.
	maxAnswerBytes = 16 << 20
)

// dialer connects, and remembers why it could not.
type dialer struct {
	mu        sync.Mutex // guards what follows
	err       error      // of connecting
	handshake error      // of TLS
	reached   bool       // there was a connection
}

func (d *dialer) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "tcp", addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.handshake, d.reached = err, nil, err == nil
	return conn, err
}

// shook notes how the handshake of the last connection went.
func (d *dialer) shook(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handshake = err
}

// refusal returns what was wrong with the last handshake, nil if nothing was.
func (d *dialer) refusal() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handshake
}

// connected tells whether the last attempt reached something.
func (d *dialer) connected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reached
}

// failure returns why the last attempt failed, nil if it did not.
func (d *dialer) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// checkAddr refuses addresses that cannot be dialled.
func (p *Program) checkAddr(c *cobra.Command) error {
	all := strings.Split(p.addr, ",")
	for i, addr := range all {
		addr = strings.TrimSpace(addr)
		host, port, err := net.SplitHostPort(addr)
		if err == nil && host == "" {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return misuse(c, "--addr %q is not HOST:PORT, nor several of them separated by commas", p.addr)
		}
		all[i] = addr
	}
	p.addr = strings.Join(all, ",")
	return nil
}

// one tells whether --addr names one broker only.
func (p *Program) one() bool { return !strings.Contains(p.addr, ",") }

// closeQuietly closes what was only read from, or has sent all: the error
// tells nothing that is not known.
func closeQuietly(c io.Closer) { _ = c.Close() }

// target is the broker for the client. passthrough: the dialer looks names up,
// and no resolver is started. Of several the client makes a target itself.
func (p *Program) target() string {
	if p.one() {
		return "passthrough:///" + p.addr
	}
	return p.addr
}

// dialOptions are those of every connection to a broker.
func (p *Program) dialOptions() ([]grpc.DialOption, error) {
	creds, err := p.credentials()
	if err != nil {
		return nil, err
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(p.dialed.dial),
		grpc.WithUserAgent("millstream-cli/" + p.Version),
	}, nil
}

// dial returns a connection to the broker, or to one of them. The caller closes it.
func (p *Program) dial() (*grpc.ClientConn, error) {
	opts, err := p.dialOptions()
	if err != nil {
		return nil, err
	}
	return millstream.Dial(p.target(), append(opts,
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
	)...)
}

// client returns a Go client for the broker. The caller closes it.
func (p *Program) client() (*millstream.Client, error) {
	opts, err := p.dialOptions()
	if err != nil {
		return nil, err
	}
	return millstream.New(millstream.Options{Addr: p.target(), Logger: p.logger(slog.LevelWarn), DialOptions: opts})
}

// logger returns a log on standard error from --log-level on, or from the
// level that is usual for the command.
func (p *Program) logger(usual slog.Level) *slog.Logger {
	level := usual
	if p.logLevel != "" {
		level, _ = telemetry.ParseLevel(p.logLevel) // resolve has refused what is none
	}
	return telemetry.NewLogger(p.Err, telemetry.LogOptions{Format: telemetry.FormatText, Level: level, Getenv: p.Getenv})
}

// call makes one call with a client of the generated stubs, in bounded time.
func call[C, Req, Resp any](p *Program, c *cobra.Command, client func(grpc.ClientConnInterface) C,
	method func(C, context.Context, Req, ...grpc.CallOption) (Resp, error), req Req,
) (Resp, error) {
	conn, err := p.dial()
	if err != nil {
		var none Resp
		return none, err
	}
	defer closeQuietly(conn)
	ctx, cancel := context.WithTimeout(c.Context(), callTimeout)
	defer cancel()
	return method(client(conn), ctx, req)
}
