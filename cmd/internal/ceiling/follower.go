package ceiling

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"

	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/rpc"
)

// stream is what the streams of this package are: both sides speak.
var stream = grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// patient leaves out the pings by which brokers find out in seconds who is gone:
// here a process that is gone is seen by who started it, and one that a busy
// machine keeps waiting is not.
var patient = grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: math.MaxInt64})

// follow appends what the leader sends until that stops, or ctx ends.
func follow(ctx context.Context, s spec, log *slog.Logger) (err error) {
	file, err := openStore(s.log(), s.bytes(), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.close()) }()
	creds := insecure.NewCredentials()
	if s.TLS {
		source, err := s.source(log)
		if err != nil {
			return err
		}
		creds = source.ClientCredentialsOf(pki.RoleBroker, 0)
	}
	conn, err := grpc.NewClient("passthrough:///"+s.Leader, append(rpc.MemberOptions(), grpc.WithTransportCredentials(creds), patient)...)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is on its way
	call, err := conn.NewStream(ctx, &stream, followMethod, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	hello := binary.LittleEndian.AppendUint32(nil, uint32(s.ID))
	if err := call.SendMsg(&message{mem.BufferSlice{mem.SliceBuffer(hello)}}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	err = s.replicate(call, file)
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil // the leader has stopped in order, or this is to
	}
	return err
}

// replicate appends messages and says how far it is: once for what has come
// while it was said the last time.
func (s *spec) replicate(call grpc.ClientStream, file *store) error {
	var end atomic.Int64
	more := make(chan struct{}, 1)
	var saying sync.WaitGroup
	saying.Go(func() {
		for range more {
			if err := call.SendMsg(endOf(end.Load())); err != nil {
				return // RecvMsg has the reason
			}
		}
	})
	defer saying.Wait()
	defer close(more)
	for in := (inspector{size: s.Size}); ; {
		var m message
		if err := call.RecvMsg(&m); err != nil {
			return err
		}
		pieces, err := in.check(&m)
		if err == nil {
			err = file.append(pieces, s.Size)
		}
		m.bytes.Free()
		if err != nil {
			return err
		}
		end.Store(file.end)
		select {
		case more <- struct{}{}:
		default:
		}
	}
}
