package servertest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// Forwarders are several brokers of one controller that forward to each other.
// Replicas are not copied between them: topics have one.
type Forwarders struct {
	t       testing.TB
	brokers []*Server

	mu    sync.Mutex // guards conns
	conns map[int32]link
}

// link is a connection to an incarnation of a broker.
type link struct {
	to   any // the listener
	conn *grpc.ClientConn
}

// StartForwarders starts a controller and so many brokers, from 1 on. It returns
// when all are ready and know of each other.
func StartForwarders(t testing.TB, brokers int, o Options) *Forwarders {
	t.Helper()
	c := &Forwarders{t: t, conns: make(map[int32]link)}
	o.controller, o.peers = controllertest.Start(t), c
	for id := range int32(brokers) {
		o.id, o.FS = id+1, memfs.New()
		c.brokers = append(c.brokers, Start(t, o))
	}
	for _, s := range c.brokers {
		_, err := s.Metadata.WaitFor(t.Context(), func(m *metadata.Snapshot) bool {
			for _, other := range c.brokers {
				if b := m.Broker(other.o.id); b == nil || b.Fenced {
					return false
				}
			}
			return true
		})
		s.check(err)
	}
	return c
}

// Broker returns the broker of that identity, from 1 on.
func (c *Forwarders) Broker(id int32) *Server { return c.brokers[id-1] }

// Conn returns a connection to a broker, as brokers have to each other; it is
// closed with the test.
func (c *Forwarders) Conn(id int32) (*grpc.ClientConn, error) {
	if id < 1 || int(id) > len(c.brokers) {
		return nil, fmt.Errorf("there is no broker %d", id)
	}
	l := c.Broker(id).internal.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.conns[id]; p.to == l {
		return p.conn, nil
	}
	conn, err := l.Dial()
	if err != nil {
		return nil, err
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	c.conns[id] = link{l, conn}
	return conn, nil
}

// CreateTopic creates a topic whose partitions are led by different brokers,
// and waits until every broker knows of it. It returns the partitions by
// leader.
func (c *Forwarders) CreateTopic(name string, partitions uint32) map[int32][]uint32 {
	c.t.Helper()
	made := c.brokers[0].CreateTopic(name, partitions)
	led := make(map[int32][]uint32)
	for i, s := range c.brokers {
		m, err := s.Metadata.Wait(c.t.Context(), made.GetRevision())
		s.check(err)
		if i > 0 {
			continue
		}
		for _, p := range m.TopicByName(name).Partitions {
			led[p.Leader] = append(led[p.Leader], p.ID)
		}
	}
	for _, s := range c.brokers {
		if len(led[s.o.id]) == 0 {
			c.t.Fatalf("broker %d leads nothing of %s", s.o.id, name)
		}
	}
	return led
}

// Await waits until a broker knows what a condition says.
func (s *Server) Await(ctx context.Context, condition func(*metadata.Snapshot) bool) *metadata.Snapshot {
	s.t.Helper()
	m, err := s.Metadata.WaitFor(ctx, condition)
	s.check(err)
	return m
}
