// Package faketest is a broker in memory that does what a script says: it
// keeps the rules of the streams (one answer each, PRECEDING_FAILED, credit)
// and fails where a test wants it to. It uses the generated code only, so
// that it reads what the client writes as any other program would. For tests.
package faketest

import (
	"context"
	"hash/crc32"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that codec wraps.
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Addr is the target that Dialer serves.
const Addr = "passthrough:///fake"

// Server is the broker. Its fields are set before it is used.
type Server struct {
	pb.UnimplementedBrokerServiceServer
	pb.UnimplementedTopicServiceServer

	// OnProduce, if set, decides on a request before it is carried out. It is
	// called from the goroutines of the streams.
	OnProduce func(*pb.ProduceRequest) Verdict
	// OnFetch, if set, decides on a subscription: an error refuses it.
	OnFetch func(*pb.FetchSubscription) *pb.RequestError
	// OnFrame, if set, may change a frame before it is sent. An error ends the
	// stream with it.
	OnFrame func(*Frame) error
	// OnCredit, if set, is told of every grant.
	OnCredit func(total uint64)

	mu       sync.Mutex
	topics   map[string]*Topic
	listener *bufconn.Listener
	server   *grpc.Server
}

// Frame is a FetchResponse about to be sent: its batches as bytes, the rest
// as a message.
type Frame struct {
	*pb.FetchResponse

	// Raw holds the LogBatch messages.
	Raw [][]byte
}

// Verdict is what becomes of a ProduceRequest. The zero Verdict carries it
// out.
type Verdict struct {
	// Error refuses the request.
	Error *pb.RequestError
	// Lose carries it out and then ends the stream with this status instead of
	// answering.
	Lose error
	// Wait is waited for before it is carried out.
	Wait <-chan struct{}
	// Drain says so before the answer, and takes no more requests.
	Drain bool
	// Reroute goes with the answer.
	Reroute *pb.Reroute
}

// Topic is a topic.
type Topic struct {
	*pb.Topic

	Partitions []*Log
}

// Log is a partition.
type Log struct {
	mu      sync.Mutex
	start   int64
	batches []stored
	changed chan struct{} // closed and replaced at every change
}

type stored struct {
	base, next int64
	batch      *pb.RecordBatch
	raw        []byte
}

// New starts a server and stops it when the test ends.
func New(t *testing.T, topic string, partitions int, config map[string]string) *Server {
	t.Helper()
	s := &Server{topics: make(map[string]*Topic)}
	made := &Topic{Topic: &pb.Topic{
		Topic: topic, TopicId: []byte("0123456789abcdef"), Revision: 42, PartitionCount: uint32(partitions), Config: config,
	}}
	for range partitions {
		made.Partitions = append(made.Partitions, &Log{changed: make(chan struct{})})
	}
	s.topics[topic] = made
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server, again after Stop; what it keeps is kept.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = bufconn.Listen(1 << 20)
	s.server = grpc.NewServer(grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")}))
	pb.RegisterBrokerServiceServer(s.server, s)
	pb.RegisterTopicServiceServer(s.server, s)
	server, listener := s.server, s.listener
	go server.Serve(listener) //nolint:errcheck // ends with Stop.
}

// Stop ends every stream and connection at once.
func (s *Server) Stop() {
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	server.Stop()
}

// Dialer returns the option that lets a client reach the server at Addr.
func (s *Server) Dialer() grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.Dial(ctx) })
}

// Dial connects to the server.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	return l.DialContext(ctx)
}

// Log returns a partition.
func (s *Server) Log(topic string, partition uint32) *Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[topic]
	if t == nil || partition >= uint32(len(t.Partitions)) {
		return nil
	}
	return t.Partitions[partition]
}

// Append appends a batch and returns its base offset.
func (l *Log) Append(b *pb.RecordBatch, attributes uint32) int64 {
	bytes, err := proto.Marshal(b)
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint32(len(b.GetRecords()))
	if b.GetRecordCount() > 0 {
		n = b.GetRecordCount()
	}
	at := stored{base: l.end(), batch: b}
	at.next = at.base + int64(n)
	at.raw = Seal(&pb.LogBatch{
		BaseOffset: at.base, RecordCount: n, LastOffsetDelta: n - 1, LeaderEpoch: 7, AppendTimeMs: 1_700_000_000_000,
		Attributes: attributes | uint32(b.GetCompression()), ProducerId: -1,
	}, bytes)
	l.batches = append(l.batches, at)
	close(l.changed)
	l.changed = make(chan struct{})
	return at.base
}

// Seal returns a LogBatch with a good CRC around the bytes of a batch.
func Seal(header *pb.LogBatch, batch []byte) []byte {
	head, err := proto.Marshal(header)
	if err != nil {
		panic(err)
	}
	tail := protowire.AppendTag(nil, 15, protowire.BytesType)
	tail = protowire.AppendVarint(tail, uint64(len(batch)))
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(crc32.Update(crc32.Checksum(batch, table), table, head), table, tail)
	head = protowire.AppendTag(head, 11, protowire.Fixed32Type)
	head = protowire.AppendFixed32(head, crc)
	return slices.Concat(head, tail, batch)
}

func (l *Log) end() int64 {
	if len(l.batches) == 0 {
		return l.start
	}
	return l.batches[len(l.batches)-1].next
}

// Records returns what the partition holds.
func (l *Log) Records() []*pb.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*pb.Record
	for _, b := range l.batches {
		all = append(all, b.batch.GetRecords()...)
	}
	return all
}

// Batches returns the batches as they were sent.
func (l *Log) Batches() []*pb.RecordBatch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*pb.RecordBatch
	for _, b := range l.batches {
		all = append(all, b.batch)
	}
	return all
}

// GetTopic describes a topic.
func (s *Server) GetTopic(_ context.Context, q *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[q.GetTopic()]
	if t == nil {
		st, err := status.New(codes.NotFound, "no such topic").WithDetails(&pb.RequestError{
			Code: uint32(codes.NotFound), Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, Message: "no such topic",
		})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	}
	return &pb.GetTopicResponse{Topic: t.Topic}, nil
}
