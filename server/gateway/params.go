package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// numberParams are the parts of a path that are numbers, with the greatest; the
// others are text.
var numberParams = map[string]uint64{
	"partition":     math.MaxUint32,
	"broker_id":     math.MaxInt32,
	"controller_id": math.MaxInt32,
}

// checkParams refuses what a request says and the call would not hear: the
// path wins over body and query, a call with a body has no query, and one
// without takes no body.
func checkParams(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		if st := paramsFault(r, path); st != nil {
			writeError(w, http.StatusBadRequest, st)
			return
		}
		next(w, r, path)
	}
}

func paramsFault(r *http.Request, path map[string]string) *status.Status {
	for _, name := range slices.Sorted(maps.Keys(path)) {
		if !utf8.ValidString(path[name]) {
			return invalidField(name, "in the path is not UTF-8")
		}
		if most, number := numberParams[name]; number && !isNumber(path[name], most) {
			return malformedField(name, fmt.Sprintf("%q in the path is not a number from 0 to %d", clip(path[name]), most))
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return malformed("query: " + clip(err.Error()))
	}
	hasBody := r.Method == http.MethodPost || r.Method == http.MethodPatch
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if st := queryFault(name, query[name], path, hasBody); st != nil {
			return st
		}
	}
	body, st := peekBody(r)
	switch {
	case st != nil:
		return st
	case !hasBody:
		if b := bytes.TrimSpace(body); len(b) > 0 && string(b) != "{}" {
			return malformed(r.Method + " takes no request body: name fields in the query")
		}
		return nil
	}
	return bodyFault(body, path)
}

// queryFault refuses a parameter that would not be heard.
func queryFault(name string, values []string, path map[string]string, hasBody bool) *status.Status {
	field, inPath := pathField(path, name)
	for _, v := range values {
		switch {
		case !utf8.ValidString(name) || !utf8.ValidString(v):
			return invalidField(clip(name), "in the query is not UTF-8")
		case inPath && !sameParam(field, v, path[field]):
			return contradiction(field, "query", v, path[field])
		}
	}
	if hasBody && !inPath {
		return malformedField(clip(name), "is in the query, and this call takes its fields from the body")
	}
	return nil
}

// bodyFault refuses a field of the body that says other than the path. What
// is no JSON object is for the decoder to refuse.
func bodyFault(body []byte, path map[string]string) *status.Status {
	if len(path) == 0 || len(body) == 0 {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		field, inPath := pathField(path, name)
		raw := fields[name]
		if !inPath || string(raw) == "null" {
			continue
		}
		said := string(raw)
		var text string
		if json.Unmarshal(raw, &text) == nil {
			said = text
		}
		if !sameParam(field, said, path[field]) {
			return contradiction(field, "body", said, path[field])
		}
	}
	return nil
}

// pathField returns the part of the path that a name in a body or a query
// stands for: fields may be called broker_id and brokerId.
func pathField(path map[string]string, name string) (field string, ok bool) {
	for field := range path {
		if name == field || name == jsonName(field) {
			return field, true
		}
	}
	return "", false
}

// jsonName returns what a field is called in JSON.
func jsonName(field string) string {
	words := strings.Split(field, "_")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}

// peekBody returns the body, which admitBody has put into memory, and leaves
// it to be read.
func peekBody(r *http.Request) ([]byte, *status.Status) {
	if r.ContentLength == 0 || r.Body == nil {
		return nil, nil
	}
	if held, ok := r.Body.(*heldBody); ok {
		return held.bytes, nil
	}
	return nil, withReason(status.New(codes.Internal, "the body was not admitted"), rpc.ReasonName(pb.ErrorReason_ERROR_REASON_INTERNAL))
}

// heldBody is a request's body in memory.
type heldBody struct {
	io.Reader
	bytes []byte
}

func holdBody(b []byte) *heldBody { return &heldBody{bytes.NewReader(b), b} }

// Close has nothing to close.
func (*heldBody) Close() error { return nil }

// isNumber refuses what the router would take for a number in another way than
// people do: the partition 010 would be 8.
func isNumber(s string, most uint64) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	return err == nil && n <= most && strconv.FormatUint(n, 10) == s
}

// sameParam compares two forms of one field; 1, 1.0 and "1" are one partition.
func sameParam(name, a, b string) bool {
	if _, number := numberParams[name]; a == b || !number {
		return a == b
	}
	x, xerr := strconv.ParseFloat(a, 64)
	y, yerr := strconv.ParseFloat(b, 64)
	return xerr == nil && yerr == nil && x == y
}

func contradiction(name, where, said, path string) *status.Status {
	return invalidField(name, "is "+strconv.Quote(clip(said))+" in the "+where+" and "+strconv.Quote(clip(path))+" in the path")
}

func invalidField(name, why string) *status.Status {
	return fieldFault(pb.ErrorReason_ERROR_REASON_INVALID_FIELD, name, why)
}

func malformedField(name, why string) *status.Status {
	return fieldFault(pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST, name, why)
}

func fieldFault(reason pb.ErrorReason, name, why string) *status.Status {
	f := &rpc.Fault{
		Code: codes.InvalidArgument, Reason: reason, Message: name + " " + why,
		Field: &pb.FieldViolation{Field: name, Description: why},
	}
	return f.GRPCStatus()
}
