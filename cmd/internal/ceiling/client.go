package ceiling

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millstream-io/millstream/server/rpc"
)

// As those of the Go client.
const (
	clientStreamWindow = 8 << 20
	clientConnWindow   = 16 << 20
	clientSocketBuffer = 256 << 10
)

// client sends messages on one stream, with so many of them in flight.
type client struct {
	*load
	size, window int
	conn         *grpc.ClientConn
	call         grpc.ClientStream
}

// dial opens the stream of a client, which ends with ctx.
func dial(ctx context.Context, addr string, l *load, size, window int) (*client, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, append(rpc.ClientOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithStaticStreamWindowSize(clientStreamWindow), grpc.WithStaticConnWindowSize(clientConnWindow),
		grpc.WithWriteBufferSize(clientSocketBuffer), grpc.WithReadBufferSize(clientSocketBuffer))...)
	if err != nil {
		return nil, err
	}
	call, err := conn.NewStream(ctx, &stream, produceMethod, grpc.WaitForReady(true))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &client{l, size, window, conn, call}, nil
}

// send sends messages from one number to another, and returns how long each
// took from the hand-over until its answer.
func (c *client) send(ctx context.Context, from, to int) ([]time.Duration, error) {
	took := make([]time.Duration, 0, to-from)
	slots, sent := make(chan struct{}, c.window), make(chan time.Time, c.window)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for n := from; n < to; n++ {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil // who takes the answers has the reason
			}
			sent <- time.Now()
			if err := c.call.SendMsg(c.message(n)); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for n := from; n < to; n++ {
			if err := c.answer(n); err != nil {
				return err
			}
			took = append(took, time.Since(<-sent))
			<-slots
		}
		return nil
	})
	err := group.Wait()
	return took, err
}

// answer takes the answer to a message.
func (c *client) answer(n int) error {
	var m message
	if err := c.call.RecvMsg(&m); err != nil {
		return fmt.Errorf("the answer to message %d: %w", n, err)
	}
	end, err := takeEnd(&m)
	if want := int64(n+1) * int64(c.size); err == nil && end != want {
		err = fmt.Errorf("the answer to message %d is %d, not %d", n, end, want)
	}
	return err
}

// finish waits until all servers have all messages.
func (c *client) finish() error {
	var m message
	switch err := c.call.RecvMsg(&m); {
	case err == nil:
		m.bytes.Free()
		return errors.New("there is an answer to nothing")
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

// close ends the connection.
func (c *client) close() { _ = c.conn.Close() } // nothing is on its way
