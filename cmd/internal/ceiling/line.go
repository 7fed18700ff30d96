package ceiling

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/rpc"
)

// line is what waits for a follower, in order. It is closed when nothing more
// comes.
type line chan shared

// shared is a message for a follower.
type shared struct {
	from int64
	msg  *message // nil: it is to be read
}

// follow serves a follower until the leader stops.
func (l *leader) follow(stream grpc.ServerStream) error {
	id, err := l.hello(stream)
	if err != nil {
		return err
	}
	ended := make(chan error, 2) // by who sends, and who receives
	go func() { ended <- l.send(stream, l.lines[id-1]) }()
	go func() { ended <- l.acks(stream, id-1) }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return l.fail(fmt.Errorf("follower %d: %w", id, err))
			}
		case <-l.ctx.Done():
			return nil
		}
	}
}

// hello returns which follower has come.
func (l *leader) hello(stream grpc.ServerStream) (int, error) {
	var m message
	if err := stream.RecvMsg(&m); err != nil {
		return 0, err
	}
	defer m.bytes.Free()
	var b [4]byte
	m.bytes.CopyTo(b[:])
	id := int(binary.LittleEndian.Uint32(b[:]))
	if id < 1 || id > l.Followers {
		return 0, status.Errorf(codes.InvalidArgument, "there is no follower %d", id)
	}
	if err := caller.CheckBroker(stream.Context(), l.callers, int32(id)); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken[id-1] {
		return 0, status.Errorf(codes.AlreadyExists, "follower %d is here already", id)
	}
	l.taken[id-1] = true
	if l.away--; l.away == 0 {
		close(l.ready)
	}
	return id, nil
}

// send sends what is in a follower's line, to its end.
func (l *leader) send(stream grpc.ServerStream, line line) error {
	pool := rpc.SharedPool()
	for {
		var s shared
		var more bool
		select {
		case s, more = <-line:
		case <-l.ctx.Done():
			return nil
		}
		if !more {
			return nil
		}
		if s.msg == nil {
			b := pool.Get(l.Size)
			if err := l.store.copyAt(*b, s.from); err != nil {
				return err
			}
			s.msg = &message{mem.BufferSlice{mem.NewBuffer(b, pool)}}
		}
		if err := stream.SendMsg(s.msg); err != nil {
			return err
		}
	}
}

// acks hears how far a follower is, until that has all.
func (l *leader) acks(stream grpc.ServerStream, i int) error {
	for end := int64(0); end < l.bytes(); {
		var m message
		err := stream.RecvMsg(&m)
		if err != nil {
			return err
		}
		if end, err = takeEnd(&m); err != nil {
			return err
		}
		l.progress.follower(i, end)
	}
	return nil
}
