package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// An error says what, why and what to do, in one line.
func TestErrorsSayWhatToDo(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	gone := status.Error(codes.Unavailable, "connection error")
	unknownTopic := &rpc.Fault{
		Code: codes.NotFound, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, Message: `topic "x" does not exist`,
		Resource: &pb.ResourceReference{Type: "topic", Name: "x"},
	}
	for _, c := range []struct {
		name   string
		dialed error
		err    error
		want   []string
	}{
		{"nobody listens", refused, gone, []string{"cannot reach h:1: ", "refused", "millstream dev", "--addr"}},
		{"topic", nil, unknownTopic.GRPCStatus().Err(), []string{`topic "x"`, "[UNKNOWN_TOPIC_OR_PARTITION]", "millstream topic create x"}},
		{"topic, wrapped", refused, fmt.Errorf("partition 1: %w", unknownTopic), []string{"millstream topic create x"}},
		{"of the client", nil, &millstream.Error{Op: "produce", Message: "no such topic", Reason: unknownTopic.Reason, Resource: unknownTopic.Resource}, []string{"no such topic", "millstream topic create x"}},
		{"field", nil, (&rpc.Fault{Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_INVALID_FIELD, Message: "bad", Field: &pb.FieldViolation{Field: "topic", Description: "is empty"}}), []string{"(topic: is empty)", "[INVALID_FIELD]"}},
		{"range", nil, (&rpc.Fault{Code: codes.OutOfRange, Reason: pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE, Message: "offset 9", OffsetRange: &pb.OffsetRange{Start: 2, End: 5}}), []string{"from 2 to 5"}},
		{"retryable", nil, (&rpc.Fault{Code: codes.Unavailable, Reason: pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, Message: "nobody leads", Retryable: true}), []string{"try again", "millstream cluster status"}},
		{"no quorum", nil, (&rpc.Fault{Code: codes.Unavailable, Reason: pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, Message: "none is active", Retryable: true}), []string{"nothing was changed; try again", "start controllers: more than half"}},
		{"broker alive", nil, (&rpc.Fault{Code: codes.AlreadyExists, Reason: pb.ErrorReason_ERROR_REASON_BROKER_ALIVE, Message: "broker 3 is running already"}), []string{"broker 3 is running already [BROKER_ALIVE]; ", "--id"}},
		{"said once", nil, (&rpc.Fault{Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_WRONG_CLUSTER, Message: "it is of another", Field: &pb.FieldViolation{Field: "cluster_id", Description: "it is of another"}}), []string{"it is of another [WRONG_CLUSTER]; ", "--controllers", "--data-dir"}},
		// What became of records comes before why the connection is gone.
		{"one lost", refused, &millstream.UnacknowledgedError{Records: 1, First: gone}, []string{"1 record was not acknowledged"}},
		{"lost", refused, &millstream.UnacknowledgedError{Records: 3, First: &millstream.UnknownOutcomeError{Topic: "t", Cause: gone}}, []string{"3 records were not acknowledged", "outcome unknown", "may or may not"}},
		{"gave up", refused, errors.Join(&millstream.GaveUpError{Topic: "t", Partition: -1, Cause: gone}), []string{"gave up", "nothing of it was written", "refused"}},
		{"gave up reading", nil, &millstream.GaveUpError{Topic: "t", Reading: true, Cause: gone}, []string{"gave up reading: connection error"}},
		{"too old", nil, status.Error(codes.Unimplemented, "unknown method X"), []string{"unknown method X", "version"}},
		{"late", nil, status.Error(codes.DeadlineExceeded, "context deadline exceeded"), []string{"h:1", "in time"}},
		{"interrupted", nil, fmt.Errorf("x: %w", context.Canceled), []string{"interrupted"}},
		{"interrupted call", nil, status.Error(codes.Canceled, "context canceled"), []string{"interrupted"}},
		{"two lines", nil, errors.Join(errors.New("one"), errors.New("two")), []string{"one; two"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Program{addr: "h:1"}
			p.dialed.err = c.dialed
			got := oneLine(p.explain(c.err))
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("%q does not say %q", got, w)
				}
			}
			if strings.Contains(got, "\n") {
				t.Errorf("more than one line: %q", got)
			}
		})
	}
}

// Colours are for terminals only, and what is not one is not coloured.
func TestErrorsAreNotColouredInPipes(t *testing.T) {
	if _, stderr, _ := run(t, nil, "nothing"); strings.Contains(stderr, "\x1b") {
		t.Errorf("got %q", stderr)
	}
}
