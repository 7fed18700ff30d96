package api

import (
	"testing"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
)

// A client that is told `retryable` sends everything again, so an Append that
// failed everywhere is retryable only if no partition may have its records.
func TestAppendThatFailedEverywhereIsRetryableOnlyIfEachPartIs(t *testing.T) {
	unknown := FaultOf(partition.ErrUnknownOutcome)
	later := FaultOf(&partition.NotEnoughReplicasError{})
	never := storageFailed("for good")
	for name, c := range map[string]struct {
		parts []*rpc.Fault
		want  *rpc.Fault
	}{
		"one":                      {[]*rpc.Fault{later}, later},
		"each later":               {[]*rpc.Fault{later, later}, later},
		"unknown behind":           {[]*rpc.Fault{later, unknown}, unknown},
		"unknown before":           {[]*rpc.Fault{unknown, later}, unknown},
		"unknown behind a refusal": {[]*rpc.Fault{never, later, unknown}, unknown},
		"unknown before a refusal": {[]*rpc.Fault{unknown, never}, unknown},
		"a refusal behind":         {[]*rpc.Fault{later, never}, never},
	} {
		t.Run(name, func(t *testing.T) {
			call := &appendCall{}
			for _, f := range c.parts {
				call.parts = append(call.parts, &appendPart{call: call, fault: f})
			}
			_, err := call.response(partition.AcksAll)
			got := rpc.RequestErrorOf(err)
			if got.GetReason() != c.want.Reason || got.GetRetryable() != c.want.Retryable {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if got.GetReason() == pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME && got.GetRetryable() {
				t.Error("retryable, though it may have been written")
			}
		})
	}
}
