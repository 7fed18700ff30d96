package faketest

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/millstream-io/millstream/clients/go/internal/transport"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Sink is a broker that keeps nothing: it acknowledges what it is sent and
// sends one frame again and again. It costs what the transport costs, so that
// a benchmark over it measures the client. It listens on the loopback.
type Sink struct {
	pb.UnimplementedTopicServiceServer

	frame []byte
	pool  transport.Pool
}

// NewSink starts a sink that sends the FetchResponse frame, and stops it when
// the benchmark ends. It returns its address.
func NewSink(t testing.TB, frame []byte) string {
	t.Helper()
	s := &Sink{frame: frame}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(transport.Codec{}), experimental.BufferPool(&s.pool),
		grpc.InitialWindowSize(8<<20), grpc.InitialConnWindowSize(16<<20), grpc.WriteBufferSize(256<<10), grpc.ReadBufferSize(256<<10))
	pb.RegisterTopicServiceServer(server, s)
	stream := func(name string, f func(grpc.ServerStream) error) grpc.StreamDesc {
		return grpc.StreamDesc{
			StreamName: name, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, st grpc.ServerStream) error { return f(st) },
		}
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: pb.BrokerService_ServiceDesc.ServiceName, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{stream("Produce", s.produce), stream("Fetch", s.fetch)},
	}, nil)
	go server.Serve(listener) //nolint:errcheck // ends with Stop.
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// GetTopic describes any topic, of one partition.
func (s *Sink) GetTopic(_ context.Context, q *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
	return &pb.GetTopicResponse{Topic: &pb.Topic{Topic: q.GetTopic(), PartitionCount: 1}}, nil
}

func (s *Sink) produce(st grpc.ServerStream) error {
	for {
		var in transport.Incoming
		if err := st.RecvMsg(&in); err != nil {
			return nil //nolint:nilerr // the client has ended it.
		}
		id, _ := protowire.ConsumeVarint(in.Pieces[0].ReadOnlyData()[1:])
		in.Free()
		answer := protowire.AppendVarint([]byte{1 << 3}, id)
		answer = append(answer, 3<<3, 0)
		if err := st.SendMsg(&transport.Outgoing{Bytes: mem.BufferSlice{mem.SliceBuffer(answer)}}); err != nil {
			return err
		}
	}
}

func (s *Sink) fetch(st grpc.ServerStream) error {
	for st.Context().Err() == nil {
		b := s.pool.Get(len(s.frame))
		copy(*b, s.frame)
		if err := st.SendMsg(&transport.Outgoing{Bytes: mem.BufferSlice{mem.NewBuffer(b, &s.pool)}}); err != nil {
			return err
		}
	}
	return nil
}
