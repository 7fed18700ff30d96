package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// Limits bound what clients can make a gateway hold. Zero fields are the
// defaults.
type Limits struct {
	// BodyBytes is the largest body of a request: 8 MiB unless said. Append
	// takes 3 MiB of records; base64 and escapes make them longer.
	BodyBytes int64
	// BodyBytesInFlight bounds the bodies of all requests together, with what
	// many values in them take decoded: 128 MiB unless said.
	BodyBytesInFlight int64
	// Connections is how many there may be at a time; more wait to be accepted:
	// 10,000 unless said.
	Connections int
	// JSONDepth is how deep a body may nest: 64 unless said.
	JSONDepth int
	// JSONValues is how many values a body may hold: 500,000 unless said. More
	// than 380,000 numbers do not fit into a message of 4 MiB.
	JSONValues int
	// Requests is how many requests may be running, followed reads included:
	// 1,024 unless said.
	Requests int
	// HeaderBytes bounds the header of a request: 16 KiB unless said.
	HeaderBytes int
	// HeaderTimeout is how long a client may take to send a header: 10 s
	// unless said.
	HeaderTimeout time.Duration
	// BodyTimeout is how long it may take to send the body: 60 s unless said.
	BodyTimeout time.Duration
	// IdleTimeout is how long a connection without a request is kept: 2 min
	// unless said.
	IdleTimeout time.Duration
	// StallTimeout is how long a client may leave an answer unread: 30 s
	// unless said.
	StallTimeout time.Duration
}

func (l Limits) withDefaults() Limits {
	return Limits{
		BodyBytes:         or(l.BodyBytes, 8<<20),
		BodyBytesInFlight: or(l.BodyBytesInFlight, 128<<20),
		Connections:       or(l.Connections, rpc.DefaultMaxConnections),
		JSONDepth:         or(l.JSONDepth, 64),
		JSONValues:        or(l.JSONValues, 500_000),
		Requests:          or(l.Requests, 1024),
		HeaderBytes:       or(l.HeaderBytes, 16<<10),
		HeaderTimeout:     or(l.HeaderTimeout, 10*time.Second),
		BodyTimeout:       or(l.BodyTimeout, time.Minute),
		IdleTimeout:       or(l.IdleTimeout, 2*time.Minute),
		StallTimeout:      or(l.StallTimeout, 30*time.Second),
	}
}

func or[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// A value of two bytes takes a hundred when it is decoded, so bodies of many
// count with what they become. What freeValues become is bounded by Requests.
const (
	valueBytes = 100
	freeValues = 1000
)

// admitBody reads and checks the body of a request and puts it in the place of
// the stream. It returns what gives the held bytes back, or the error to
// answer and its HTTP status.
func (g *Gateway) admitBody(w *writer, r *http.Request) (release func(), st *status.Status, code int) {
	limit := g.o.Limits.BodyBytes
	if r.ContentLength > limit {
		return nil, overLimit("request body bytes", limit, r.ContentLength), http.StatusRequestEntityTooLarge
	}
	if r.ContentLength == 0 {
		return func() {}, nil, 0
	}
	held := r.ContentLength
	if held < 0 { // chunked: it may become as large as it is allowed to
		held = limit
	}
	if !g.bodies.TryAcquire(held) {
		return nil, overLimit("request body bytes in flight", g.o.Limits.BodyBytesInFlight, 0), http.StatusTooManyRequests
	}
	g.metrics.bodies.Add(held)
	release = func() {
		g.metrics.bodies.Add(-held)
		g.bodies.Release(held)
	}
	// Not the server's ReadTimeout, which would end followed reads too.
	_ = w.control.SetReadDeadline(time.Now().Add(g.o.Limits.BodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w.ResponseWriter, r.Body, limit))
	_ = w.control.SetReadDeadline(time.Time{})
	if err == nil {
		err = checkDepth(body, g.o.Limits.JSONDepth)
	}
	if err == nil {
		err = checkSingle(body)
	}
	if err == nil {
		st, code = g.admitValues(countValues(body), &held)
	}
	if st != nil {
		release()
		return nil, st, code
	}
	if err == nil {
		r.Body, r.ContentLength = holdBody(body), int64(len(body))
		return release, nil, 0
	}
	release()
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, overLimit("request body bytes", limit, 0), http.StatusRequestEntityTooLarge
	}
	if d, ok := errors.AsType[*depthError](err); ok {
		f := &rpc.Fault{
			Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST, Message: err.Error(),
			Limit: &pb.LimitViolation{Limit: "JSON depth", Maximum: int64(d.limit), Actual: int64(d.limit) + 1},
		}
		return nil, f.GRPCStatus(), http.StatusBadRequest
	}
	return nil, malformed("request body: " + err.Error()), http.StatusBadRequest
}

// admitValues adds what the values of a body take to what is held for it, or
// says why not.
func (g *Gateway) admitValues(n int, held *int64) (st *status.Status, code int) {
	if most := g.o.Limits.JSONValues; n > most {
		return overLimit("JSON values", int64(most), int64(n)), http.StatusRequestEntityTooLarge
	}
	if n <= freeValues {
		return nil, 0
	}
	more := int64(n) * valueBytes
	if !g.bodies.TryAcquire(more) {
		return overLimit("request body bytes in flight", g.o.Limits.BodyBytesInFlight, 0), http.StatusTooManyRequests
	}
	g.metrics.bodies.Add(more)
	*held += more
	return nil, 0
}

var errTrailing = errors.New("more follows the JSON value")

// checkSingle refuses what follows the first JSON value: the decoder would not
// look at it, and a client would think that it was carried out. Whether the
// value is good is for the decoder to say.
func checkSingle(b []byte) error {
	if json.Valid(b) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	var first json.RawMessage
	if d.Decode(&first) == nil && len(bytes.TrimSpace(b[d.InputOffset():])) > 0 {
		return errTrailing
	}
	return nil
}

// depthError says that a body nests too deep.
type depthError struct{ limit, at int }

func (e *depthError) Error() string {
	return fmt.Sprintf("request body nests deeper than %d levels at byte %d", e.limit, e.at)
}

// marks yields the brackets and commas of the JSON text b and where they are, not
// those in its texts.
func marks(b []byte) iter.Seq2[int, byte] {
	return func(yield func(int, byte) bool) {
		text := false
		for i := 0; i < len(b); i++ {
			switch c := b[i]; {
			case text && c == '\\':
				i++
			case c == '"':
				text = !text
			case text:
			case bytes.IndexByte([]byte("{}[],"), c) >= 0:
				if !yield(i, c) {
					return
				}
			}
		}
	}
}

// checkDepth returns a *depthError if the JSON text b nests deeper than limit.
// It checks nothing else: the decoder does.
func checkDepth(b []byte, limit int) error {
	depth := 0
	for i, c := range marks(b) {
		switch c {
		case '{', '[':
			if depth++; depth > limit {
				return &depthError{limit, i}
			}
		case '}', ']':
			depth--
		}
	}
	return nil
}

// countValues returns about how many values the JSON text b holds, keys of
// objects apart: one for each that opens, and one for each comma.
func countValues(b []byte) int {
	n := 0
	for _, c := range marks(b) {
		if c == '{' || c == '[' || c == ',' {
			n++
		}
	}
	return n
}
