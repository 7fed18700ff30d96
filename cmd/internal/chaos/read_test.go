package chaos

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/millstream-io/millstream/cmd/internal/chronicle"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// rerouting is a broker that ends the first subscription of a stream since
// another broker serves its partition, and says nothing more.
type rerouting struct {
	pb.UnimplementedBrokerServiceServer
}

// Fetch is part of BrokerService.
func (rerouting) Fetch(stream grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	first := r.GetSubscribe()[0]
	if err := stream.Send(&pb.FetchResponse{
		SubscriptionId: first.GetSubscriptionId(), Partition: first.GetPartition(),
		Control: &pb.FetchResponse_Reroute{Reroute: &pb.Reroute{Topic: first.GetTopic(), Partition: first.GetPartition()}},
	}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return context.Cause(stream.Context())
}

// A subscription that is rerouted is over: a reader that waited for more of it
// would stand still for ever.
func TestAReaderThatIsReroutedGoesOnElsewhere(t *testing.T) {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	pb.RegisterBrokerServiceServer(server, rerouting{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///broker", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	book, err := chronicle.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &run{conns: []*grpc.ClientConn{conn}, book: book}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if begun, err := r.readOn(ctx, 0, 0, &r.followed[0]); begun != partitions || !errors.Is(err, errRerouted) {
		t.Errorf("%d begun, and it ends with %v", begun, err)
	}
	server.Stop()
	if err := errors.Join(<-served, conn.Close(), book.Close()); err != nil {
		t.Error(err)
	}
}
