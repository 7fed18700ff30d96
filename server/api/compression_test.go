package api_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/servertest"
)

func TestStreamsAnswerUncompressedWhateverTheRequest(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	client := pb.NewBrokerServiceClient(s.Dial(grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name))))
	encoding := func(st grpc.ClientStream) []string {
		t.Helper()
		header, err := st.Header()
		if err != nil {
			t.Fatal(err)
		}
		return header.Get("grpc-encoding")
	}
	p := openProducer(t, client)
	if r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v")}); r.GetError() != nil {
		t.Fatal(r.GetError())
	}
	f := openFetcher(t, client)
	f.subscribe(&pb.FetchSubscription{Topic: "t"})
	f.next()
	r, err := client.Read(t.Context(), &pb.ReadRequest{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for name, st := range map[string]grpc.ClientStream{"Produce": p.st, "Fetch": f.st, "Read": r} {
		if got := encoding(st); len(got) > 0 && got[0] != "identity" {
			t.Errorf("%s answers in %v", name, got)
		}
	}
}
