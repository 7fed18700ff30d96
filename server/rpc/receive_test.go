package rpc

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/peer"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// receiving is a service whose Fetch receives with a Receiver, answers each
// message with its size as the credit used, and tells what it was asked.
func receiving(t *testing.T, asked *[]int, refuse error) pb.BrokerServiceClient {
	t.Helper()
	_, conn := serve(t, &scripted{fetch: func(st grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
		r := NewReceiver(st, 2*DefaultMaxRequestBytes, time.Minute, func() {})
		if !r.Asks() {
			return errors.New("the transport of this version of gRPC is not known: large messages are not bounded")
		}
		for {
			msg, err := r.Receive(func(n int) error {
				*asked = append(*asked, n)
				return refuse
			})
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			n := msg.Len()
			msg.Free()
			if err := st.Send(&pb.FetchResponse{CreditUsed: uint32(n)}); err != nil {
				return err
			}
		}
	}}, Options{})
	return pb.NewBrokerServiceClient(conn)
}

// sendSizes sends messages of these sizes and returns what the last one got.
func sendSizes(t *testing.T, c pb.BrokerServiceClient, sizes []int, opts ...grpc.CallOption) error {
	t.Helper()
	st, err := c.Fetch(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range sizes {
		if err := st.SendMsg(raw(make([]byte, n))); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		a, err := st.Recv()
		if err != nil {
			return err
		}
		if int(a.GetCreditUsed()) != n {
			t.Errorf("a message of %d bytes came as %d", n, a.GetCreditUsed())
		}
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func TestReceiverAsksBeforeItTakesALargeMessage(t *testing.T) {
	var asked []int
	c := receiving(t, &asked, nil)
	if err := sendSizes(t, c, []int{0, 1, MessageStep, MessageStep + 1, 3 << 20, 7 << 20, 5}); err != nil {
		t.Fatal(err)
	}
	if want := []int{MessageStep + 1, 3 << 20, 7 << 20}; len(asked) != len(want) || asked[0] != want[0] || asked[1] != want[1] || asked[2] != want[2] {
		t.Errorf("asked for %v, want %v", asked, want)
	}
}

func TestReceiverAsksForTheMostBeforeItDecompresses(t *testing.T) {
	var asked []int
	c := receiving(t, &asked, nil)
	if err := sendSizes(t, c, []int{10, 3 << 20}, grpc.UseCompressor(gzip.Name)); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 || asked[0] != 2*DefaultMaxRequestBytes || asked[1] != 2*DefaultMaxRequestBytes {
		t.Errorf("asked for %v", asked)
	}
	wantFault(t, sendSizes(t, c, []int{9 << 20}, grpc.UseCompressor(gzip.Name)), codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
}

func TestReceiverRefusesWhatIsTooLarge(t *testing.T) {
	var asked []int
	c := receiving(t, &asked, nil)
	wantFault(t, sendSizes(t, c, []int{9 << 20}), codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	if len(asked) > 0 {
		t.Errorf("asked for %v", asked)
	}
}

func TestRefusalEndsTheReceiving(t *testing.T) {
	var asked []int
	c := receiving(t, &asked, ShuttingDownFault())
	wantFault(t, sendSizes(t, c, []int{1 << 20}), codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
}

func TestOnlyTheConnectionOfThePeerIsCut(t *testing.T) {
	raw, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var cs connections
	l := newListener(raw, &cs, 0)
	defer func() { _ = l.Close() }() // nothing is accepted any longer
	connect := func() (client, server net.Conn) {
		client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if server, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		return client, server
	}
	stays, server := connect()
	goes, other := connect()
	defer func() { _, _ = stays.Close(), goes.Close() }() // one of them is closed already
	ctx := withConnections(peer.NewContext(t.Context(), &peer.Peer{Addr: other.RemoteAddr()}), &cs)
	CutConnection(ctx)
	if _, err := goes.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := stays.Read(make([]byte, 1)); err != nil {
		t.Errorf("the other connection was cut, too: %v", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if len(cs.open) != 0 {
		t.Errorf("%d connections are open", len(cs.open))
	}
}

func TestInProcessConnectionsNameTheirNetwork(t *testing.T) {
	l := ListenInProcess()
	defer func() { _ = l.Close() }() // nobody uses it
	if got := l.Addr().Network(); got != inProcessNetwork {
		t.Errorf("the network is %q, and connections of %q are not cut", got, inProcessNetwork)
	}
}
