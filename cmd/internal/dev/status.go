package dev

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

const (
	// statusHeaderTimeout is how long a caller may take to say what it wants.
	statusHeaderTimeout = 10 * time.Second
	// statusIdle is how long a connection may stay without a question.
	statusIdle = time.Minute
	// statusHeaderBytes and statusConnections bound what callers can make it hold;
	// more of them wait to be accepted.
	statusHeaderBytes = 16 << 10
	statusConnections = 100
	// statusPatience is how long a process that stops waits for answers that are
	// being sent.
	statusPatience = time.Second
)

// statusPage is what a controller serves over HTTP: how it is, and nothing that could
// change that. It has no REST, which is the brokers'.
type statusPage struct {
	lis    net.Listener
	server *http.Server
}

// newStatusPage returns the status of a process that answers calls once ready is
// closed. Run serves it.
func newStatusPage(lis net.Listener, reg *prometheus.Registry, ready <-chan struct{}, logger *slog.Logger) *statusPage {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-ready:
			say(w, http.StatusOK, "ready")
		default:
			say(w, http.StatusServiceUnavailable, "no controller is active yet")
		}
	})
	return &statusPage{netutil.LimitListener(lis, statusConnections), &http.Server{
		Handler: mux, ReadHeaderTimeout: statusHeaderTimeout, IdleTimeout: statusIdle, MaxHeaderBytes: statusHeaderBytes,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}}
}

// say answers in one line. Who has gone does not hear it.
func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n"))
}

// run serves until ctx ends, which is no error.
func (s *statusPage) run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(s.lis) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusPatience)
	defer cancel()
	err := s.server.Shutdown(last)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
