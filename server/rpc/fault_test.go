package rpc

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func TestFaultCarriesItsDetailInAndOutOfBand(t *testing.T) {
	faults := []*Fault{
		{Field: &pb.FieldViolation{Field: "topic", Description: "is empty"}},
		{Limit: &pb.LimitViolation{Limit: "max.batch.bytes", Maximum: 1, Actual: 2}},
		{OffsetRange: &pb.OffsetRange{Start: 1, End: 2}},
		{Leader: &pb.LeaderHint{BrokerId: 3}},
		{Divergence: &pb.Divergence{SafeOffset: 4}},
		{Resource: &pb.ResourceReference{Type: "topic", Name: "t"}},
	}
	for _, f := range faults {
		f.Code, f.Reason, f.Message, f.RetryAfter = codes.Aborted, pb.ErrorReason_ERROR_REASON_CONFLICT, "m", time.Second
		if f.RequestError().GetDetail() == nil {
			t.Errorf("%+v: no detail", f)
		}
		if got := FaultFrom(f.RequestError()); got.RetryAfter != time.Second || !proto.Equal(got.RequestError(), f.RequestError()) {
			t.Errorf("sent in a stream %+v, got %+v", f, got)
		}
		var retry, field bool
		for _, d := range f.GRPCStatus().Details() {
			switch d := d.(type) {
			case *errdetails.RetryInfo:
				retry = d.GetRetryDelay().AsDuration() == time.Second
			case *errdetails.BadRequest:
				field = d.GetFieldViolations()[0].GetField() == "topic"
			}
		}
		if !retry || field != (f.Field != nil) {
			t.Errorf("%+v: retry %v, field %v", f, retry, field)
		}
		f.Metadata = map[string]string{"maxBatchBytes": "1"}
		if got := FaultFromStatus(f.GRPCStatus().Err()); !proto.Equal(got.RequestError(), f.RequestError()) ||
			got.RetryAfter != f.RetryAfter || got.Metadata["maxBatchBytes"] != "1" {
			t.Errorf("sent %+v, got %+v", f, got)
		}
	}
}

func TestEveryReasonHasAName(t *testing.T) {
	for n := range pb.ErrorReason_name {
		if r := pb.ErrorReason(n); len(ReasonName(r)) == 0 || len(ReasonName(r)) > 63 {
			t.Errorf("%v has the name %q", r, ReasonName(r))
		}
	}
	if ReasonName(9999) != "UNSPECIFIED" {
		t.Error("a reason of another version has no name")
	}
}
