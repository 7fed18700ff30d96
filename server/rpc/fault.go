// Package rpc is the gRPC kit that every service of Millstream shares: how an
// error is said, which codec is used, how a server is built and stopped.
//
// It is a leaf: it imports no package of ours but the generated API, and
// knows nothing of topics or logs.
//
// INVARIANT: no call ends without a reason. Whatever a handler returns, be it
// a panic, reaches the client as a status with google.rpc.ErrorInfo; only what
// gRPC itself refuses before a method is known has a bare status.
//
// Goroutines: besides those of gRPC, one for each stream of a service that is
// not ours (health watches, reflection), so that a stop need not wait for its
// client. Server.Stop ends all of them and waits for them; nothing is started
// before Server.Serve.
package rpc

import (
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Domain is the domain of every google.rpc.ErrorInfo that Millstream sends.
const Domain = "millstream"

// Fault is an error of the API: what the errors.go of a service makes of the
// typed errors below it. As a unary status it carries google.rpc.ErrorInfo, a
// RequestError and, where retrying makes sense, RetryInfo; inside a stream it
// is the RequestError.
type Fault struct {
	Code      codes.Code
	Reason    pb.ErrorReason
	Message   string
	Retryable bool
	// RetryAfter is sent if positive: in the RequestError, and as RetryInfo.
	RetryAfter time.Duration
	// Metadata goes into ErrorInfo; units are part of the keys.
	Metadata map[string]string
	// Field, Limit, … : at most one of them is set.
	Field       *pb.FieldViolation
	Limit       *pb.LimitViolation
	OffsetRange *pb.OffsetRange
	Leader      *pb.LeaderHint
	Divergence  *pb.Divergence
	Resource    *pb.ResourceReference
}

// Error says what is wrong, for people.
func (f *Fault) Error() string { return f.Message }

// RequestError returns the fault as it is sent inside a stream.
func (f *Fault) RequestError() *pb.RequestError {
	e := &pb.RequestError{
		Code: uint32(f.Code), Reason: f.Reason, Message: f.Message, Retryable: f.Retryable,
		RetryAfterMs: f.RetryAfter.Milliseconds(),
	}
	switch {
	case f.Field != nil:
		e.Detail = &pb.RequestError_Field{Field: f.Field}
	case f.Limit != nil:
		e.Detail = &pb.RequestError_Limit{Limit: f.Limit}
	case f.OffsetRange != nil:
		e.Detail = &pb.RequestError_OffsetRange{OffsetRange: f.OffsetRange}
	case f.Leader != nil:
		e.Detail = &pb.RequestError_Leader{Leader: f.Leader}
	case f.Divergence != nil:
		e.Detail = &pb.RequestError_Divergence{Divergence: f.Divergence}
	case f.Resource != nil:
		e.Detail = &pb.RequestError_Resource{Resource: f.Resource}
	}
	return e
}

// GRPCStatus returns the fault as the status of a call.
func (f *Fault) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{
		protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: ReasonName(f.Reason), Domain: Domain, Metadata: f.Metadata}),
		protoadapt.MessageV1Of(f.RequestError()),
	}
	if f.Field != nil {
		details = append(details, protoadapt.MessageV1Of(&errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: f.Field.Field, Description: f.Field.Description}},
		}))
	}
	if f.RetryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)}))
	}
	st, err := status.New(f.Code, f.Message).WithDetails(details...)
	if err != nil { // only for code OK, which is no fault
		return status.New(codes.Internal, f.Message)
	}
	return st
}

// ReasonName returns the name of a reason without its prefix, as ErrorInfo
// carries it: UNKNOWN_TOPIC_OR_PARTITION.
func ReasonName(r pb.ErrorReason) string {
	const prefix = "ERROR_REASON_"
	if s := r.String(); len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):]
	}
	return "UNSPECIFIED"
}

// RequestErrorOf returns the RequestError that err carries, as a Fault or as a
// status received from a server; nil if it carries none.
func RequestErrorOf(err error) *pb.RequestError {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.RequestError()
	}
	st, ok := status.FromError(err)
	if !ok {
		return nil
	}
	for _, d := range st.Details() {
		if e, ok := d.(*pb.RequestError); ok {
			return e
		}
	}
	return nil
}

// FaultFrom returns the fault that a server of ours sent inside a stream, as a
// broker passes it on.
func FaultFrom(e *pb.RequestError) *Fault {
	return &Fault{
		Code: codes.Code(e.GetCode()), Reason: e.GetReason(), Message: e.GetMessage(), Retryable: e.GetRetryable(),
		RetryAfter: time.Duration(e.GetRetryAfterMs()) * time.Millisecond,
		Field:      e.GetField(), Limit: e.GetLimit(), OffsetRange: e.GetOffsetRange(),
		Leader: e.GetLeader(), Divergence: e.GetDivergence(), Resource: e.GetResource(),
	}
}

// FaultFromStatus returns the fault that a server of ours sent as a status, as
// a broker passes on what the controller said; nil if err carries none.
func FaultFromStatus(err error) *Fault {
	e := RequestErrorOf(err)
	if e == nil {
		return nil
	}
	f := FaultFrom(e)
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			f.Metadata = d.GetMetadata()
		case *errdetails.RetryInfo:
			f.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return f
}
