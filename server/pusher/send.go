package pusher

import (
	"google.golang.org/grpc/mem"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
)

// push is a message that is encoded already: the header of a push, and the
// batches as they stand in the log.
type push struct{ head, batches *[]byte }

// MarshalRaw hands the bytes over.
func (p *push) MarshalRaw() (mem.BufferSlice, error) {
	pool := rpc.SharedPool()
	return mem.BufferSlice{mem.NewBuffer(p.head, pool), mem.NewBuffer(p.batches, pool)}, nil
}

// send says what there is to say until the stream ends: what is of sessions
// first, then a push of each in turn.
func (st *stream) send() error {
	var ends []*replicationv1.Push
	for {
		said, err := st.sayControl(ends)
		if err != nil {
			return err
		}
		ends = nil
		f := st.next()
		if f == nil {
			if said {
				continue // there may be more of it, and then offers
			}
			select {
			case <-st.ctx.Done():
				return nil
			case <-st.more:
			}
			continue
		}
		end, err := st.deliver(f)
		if err != nil {
			return err
		}
		// Ends that nothing carries go together, before any push: a push continues
		// what its feed was told last.
		for end != nil {
			ends = append(ends, end)
			if len(ends) == perMessage {
				break
			}
			if f = st.nextEnds(); f == nil {
				break
			}
			if end, err = st.deliver(f); err != nil {
				return err
			}
		}
	}
}

// next takes the feed whose turn it is. Before that, what is to be said of
// sessions has to be: the feed's may be among those that have begun.
func (st *stream) next() *partition.Feed {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.opened) > 0 {
		return nil
	}
	return st.pop()
}

// nextEnds takes the feed whose turn it is if it has nothing to send but ends.
func (st *stream) nextEnds() *partition.Feed {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.opened) > 0 || len(st.offers) == 0 || st.offers[0].Records() {
		return nil
	}
	return st.pop()
}

// pop takes the first of the line.
//
// REQUIRES: the mutex is held.
func (st *stream) pop() *partition.Feed {
	if len(st.offers) == 0 {
		return nil
	}
	f := st.offers[0]
	st.offers[0] = nil
	if st.offers = st.offers[1:]; len(st.offers) == 0 {
		st.offers = nil
	}
	return f
}

// sayControl says what is not of a push, and tells whether there was anything.
func (st *stream) sayControl(ends []*replicationv1.Push) (bool, error) {
	m := &replicationv1.ReplicateResponse{Ends: ends}
	st.mu.Lock()
	m.Opened, st.opened = cutAt(st.opened, perMessage)
	m.Closes, st.closes = cutAt(st.closes, perMessage)
	if st.ping {
		st.ping = false
		st.pinged = int64(partition.Uptime())
		m.Ping = &replicationv1.Ping{SentNs: st.pinged}
	}
	st.mu.Unlock()
	if len(m.GetOpened()) == 0 && len(m.GetCloses()) == 0 && len(m.GetEnds()) == 0 && m.GetPing() == nil {
		return false, nil
	}
	return true, st.call.Send(m)
}

// deliver sends what a feed has, or returns the ends if it has nothing else.
func (st *stream) deliver(f *partition.Feed) (*replicationv1.Push, error) {
	pool := rpc.SharedPool()
	var room *[]byte
	header, batches, end, ok := f.Read(func(n int) []byte {
		if room != nil {
			pool.Put(room)
		}
		room = pool.Get(n)
		return *room
	})
	if !ok || len(batches) == 0 {
		if room != nil {
			pool.Put(room)
		}
		if !ok {
			return nil, nil
		}
		f.Sent(end, 0)
		return pushOf(&header, end), nil
	}
	*room = batches
	head := pool.Get(wire.MaxPushSize)
	*head = wire.AppendPush((*head)[:0], pushOf(&header, end))
	f.Sent(end, len(batches))
	return nil, st.call.SendMsg(&push{head, room})
}

// cutAt takes the first n of a list, and leaves the rest.
func cutAt[T any](list []T, n int) (first, rest []T) {
	if len(list) <= n {
		return list, nil
	}
	return list[:n:n], list[n:]
}
