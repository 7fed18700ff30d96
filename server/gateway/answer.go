package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/protoadapt"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// Reasons that only HTTP has.
const (
	reasonUnknownPath      = "UNKNOWN_PATH"
	reasonMethodNotAllowed = "METHOD_NOT_ALLOWED"
	reasonNotReady         = "NOT_READY"
)

// problem is an error as HTTP clients see it.
type problem struct {
	Code    int               `json:"code"`
	Status  string            `json:"status"`
	Reason  string            `json:"reason"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details"`
}

// newProblem never fails: a detail that cannot be shown is left out.
func newProblem(st *status.Status) problem {
	p := problem{
		Code: int(st.Code()), Status: code.Code(st.Code()).String(), Reason: reasonOf(st),
		Message: st.Message(), Details: []json.RawMessage{},
	}
	for _, d := range st.Proto().GetDetails() {
		if b, err := protojson.Marshal(d); err == nil {
			p.Details = append(p.Details, b)
		}
	}
	return p
}

// reasonOf returns the reason that a status carries, or the one that follows
// from its code when it comes from the gateway and not from a service.
func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	switch st.Code() { //nolint:exhaustive // the rest is called by its code
	case codes.InvalidArgument:
		return rpc.ReasonName(pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST)
	case codes.Internal, codes.Unknown:
		return rpc.ReasonName(pb.ErrorReason_ERROR_REASON_INTERNAL)
	case codes.Unavailable:
		return rpc.ReasonName(pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
	}
	return code.Code(st.Code()).String()
}

// withReason adds an ErrorInfo with a reason to a status.
func withReason(st *status.Status, reason string) *status.Status {
	with, err := st.WithDetails(protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: reason, Domain: rpc.Domain}))
	if err != nil { // only for code OK
		return st
	}
	return with
}

func unknownPath(r *http.Request) *status.Status {
	return withReason(status.New(codes.NotFound, "no such path: "+clip(r.URL.Path)+"; /openapi.json describes the REST API"), reasonUnknownPath)
}

func wrongMethod(r *http.Request) *status.Status {
	return withReason(status.New(codes.Unimplemented, clip(r.URL.Path)+" does not take "+clip(r.Method)), reasonMethodNotAllowed)
}

func malformed(why string) *status.Status {
	f := &rpc.Fault{Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST, Message: why}
	return f.GRPCStatus()
}

func overLimit(what string, limit, actual int64) *status.Status {
	f := &rpc.Fault{
		Code: codes.ResourceExhausted, Reason: pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
		Message: overLimitMessage(what, limit, actual),
		Limit:   &pb.LimitViolation{Limit: what, Maximum: limit, Actual: actual},
	}
	return f.GRPCStatus()
}

func overLimitMessage(what string, limit, actual int64) string {
	if actual > 0 {
		return fmt.Sprintf("over the limit of %d %s: %d", limit, what, actual)
	}
	return fmt.Sprintf("over the limit of %d %s", limit, what)
}

// clip makes of what a client sent a string that may be echoed.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func writeJSON(w http.ResponseWriter, httpStatus int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // only types of ours are written
		httpStatus, b = http.StatusInternalServerError, []byte(`{"code":13,"status":"INTERNAL","reason":"INTERNAL","message":"answer not encodable","details":[]}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(httpStatus)
	_, _ = w.Write(append(b, '\n')) // the client may have gone
}

func writeError(w http.ResponseWriter, httpStatus int, st *status.Status) {
	writeJSON(w, httpStatus, newProblem(st))
}

// restError answers a call that failed.
func (g *Gateway) restError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	st := restStatus(err)
	if st.Code() == codes.InvalidArgument && len(status.Convert(err).Proto().GetDetails()) == 0 {
		if named := badQuery(ctx, r); named != nil {
			st = named
		}
	}
	httpStatus := runtime.HTTPStatusFromCode(st.Code())
	if st.Code() == codes.Unavailable || st.Code() == codes.ResourceExhausted {
		setRetryAfter(w, st)
	}
	writeError(w, httpStatus, st)
}

// restStatus returns the status of a failed call, with details also if
// grpc-gateway made it: of a body, a path or a query that it could not read.
func restStatus(err error) *status.Status {
	if bad, ok := errors.AsType[*runtime.HTTPStatusError](err); ok && bad.HTTPStatus == http.StatusBadRequest {
		return malformed(clip(bad.Error()))
	}
	st := status.Convert(err)
	switch {
	case len(st.Proto().GetDetails()) > 0:
		return st
	case st.Code() == codes.InvalidArgument:
		return malformed(strings.ToValidUTF8(st.Message(), "\uFFFD"))
	}
	return withReason(st, reasonOf(st))
}

// setRetryAfter says in HTTP's words what RetryInfo says in gRPC's.
func setRetryAfter(w http.ResponseWriter, st *status.Status) {
	for _, d := range st.Details() {
		if ri, ok := d.(*errdetails.RetryInfo); ok {
			seconds := max(1, int(ri.GetRetryDelay().AsDuration().Round(time.Second)/time.Second))
			w.Header().Set("Retry-After", itoa(seconds))
		}
	}
}

// routingError answers a request that no route takes.
func (g *Gateway) routingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	switch httpStatus {
	case http.StatusNotFound:
		writeError(w, httpStatus, unknownPath(r))
	case http.StatusMethodNotAllowed:
		writeError(w, httpStatus, wrongMethod(r))
	default:
		writeError(w, httpStatus, malformed(http.StatusText(httpStatus)))
	}
}

// streamError is called when a stream fails. Before the first record it
// answers like any failed call, and what grpc-gateway would add is dropped;
// after it the error is the last line.
func (g *Gateway) streamError(ctx context.Context, err error) *status.Status {
	st := restStatus(err)
	if w, ok := ctx.Value(writerKey{}).(*writer); ok && w.status == 0 {
		w.Header().Del("Transfer-Encoding")
		writeError(w, runtime.HTTPStatusFromCode(st.Code()), st)
		w.closed = true
	}
	return st
}
