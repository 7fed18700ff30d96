package gateway

import (
	"net/http"
	"strconv"
	"time"
)

// writerKey is the context key of a request's *writer.
type writerKey struct{}

// writer is the way to the client of one request. Every write moves the
// deadline: a client that reads nothing for the stall timeout is cut off,
// however long its answer is.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	status  int  // as sent; 0: nothing yet
	closed  bool // the answer is complete: the rest is dropped
}

func (g *Gateway) newWriter(rw http.ResponseWriter, _ *http.Request) *writer {
	return &writer{ResponseWriter: rw, control: http.NewResponseController(rw), stall: g.o.Limits.StallTimeout}
}

// WriteHeader sends the status once.
func (w *writer) WriteHeader(status int) {
	if w.closed || w.status != 0 {
		return
	}
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Write sends bytes; it fails when the client has not read for too long.
func (w *writer) Write(b []byte) (int, error) {
	if w.closed {
		return len(b), nil
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.extend()
	return w.ResponseWriter.Write(b)
}

// FlushError sends what is buffered; net/http's ResponseController finds it.
func (w *writer) FlushError() error {
	if w.closed {
		return nil
	}
	w.extend()
	return w.control.Flush()
}

// extend gives the client another stall timeout. Without support for deadlines
// (a test recorder) there is nothing to bound.
func (w *writer) extend() { _ = w.control.SetWriteDeadline(time.Now().Add(w.stall)) }

func itoa(n int) string { return strconv.Itoa(n) }
