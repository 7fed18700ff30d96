package cli

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// trimming is a server with five partitions that end at offset 10; one of them
// fails to be trimmed.
type trimming struct {
	pb.UnimplementedTopicServiceServer
	fails uint32
	with  error
}

func (*trimming) ListOffsets(context.Context, *pb.ListOffsetsRequest) (*pb.ListOffsetsResponse, error) {
	resp := &pb.ListOffsetsResponse{}
	for i := range uint32(5) {
		end := int64(10)
		resp.Offsets = append(resp.Offsets, &pb.PartitionOffset{Partition: i, Offset: &end})
	}
	return resp, nil
}

func (s *trimming) DeleteRecords(_ context.Context, r *pb.DeleteRecordsRequest) (*pb.DeleteRecordsResponse, error) {
	if r.GetPartition() == s.fails {
		return nil, s.with
	}
	return &pb.DeleteRecordsResponse{LogStart: r.GetBeforeOffset()}, nil
}

// serveTopics serves s on loopback and returns its address.
func serveTopics(t *testing.T, s pb.TopicServiceServer) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterTopicServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}

// A trim that fails half way says of every partition what became of it.
func TestATrimThatFailsSaysHowFarItCame(t *testing.T) {
	refused := &rpc.Fault{Code: codes.Unavailable, Reason: pb.ErrorReason_ERROR_REASON_NOT_LEADER, Message: "another leads"}
	for name, c := range map[string]struct {
		s    trimming
		rows int
		want string
	}{
		"refused":      {trimming{fails: 2, with: refused.GRPCStatus().Err()}, 2, "error: t/2: another leads [NOT_LEADER]; trimmed: 0-1; not trimmed: 2-4"},
		"the last":     {trimming{fails: 4, with: refused.GRPCStatus().Err()}, 4, "; trimmed: 0-3; not trimmed: 4"},
		"no answer":    {trimming{fails: 1, with: status.Error(codes.Unknown, "gone")}, 1, "; trimmed: 0; not known: 1; not trimmed: 2-4"},
		"at the first": {trimming{fails: 0, with: refused.GRPCStatus().Err()}, 0, "; trimmed: none; not trimmed: 0-4"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, exit := run(t, nil, "--addr", serveTopics(t, &c.s), "topic", "trim", "t", "--before", "4", "-o", "json")
			if exit != 1 || !strings.Contains(stderr, c.want) || strings.Count(stdout, `"start": 4`) != c.rows {
				t.Errorf("exit %d\n%s%s", exit, stdout, stderr)
			}
		})
	}
}

func TestPartitionsAreListedInRows(t *testing.T) {
	for want, in := range map[string][]uint32{"none": {}, "3": {3}, "0-2": {0, 1, 2}, "0,2-3,7": {0, 2, 3, 7}} {
		var all []partitionOffset
		for _, p := range in {
			all = append(all, partitionOffset{partition: p})
		}
		if got := partitionsOf(all); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
