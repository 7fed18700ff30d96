// Package gateway is the HTTP side of a broker: the REST form of the public
// API (grpc-gateway over a connection to the broker's own gRPC services),
// /openapi.json, /metrics, /healthz and /readyz.
//
// It owns HTTP: routes, limits of connections, bodies, nesting, requests and
// time, and how an error is said in JSON. It refuses to own what the calls mean: every /v1
// request goes through the services, so that REST has no rule of its own.
//
// INVARIANT: every answer to a request that HTTP could read, but for /metrics,
// is JSON, and every error carries code, status, reason, message and details.
// Reasons are those of the API, and three of HTTP: UNKNOWN_PATH,
// METHOD_NOT_ALLOWED and NOT_READY.
//
// Goroutines: those of net/http. Run serves until its context ends and returns
// when no request is left; New starts nothing.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millstream-io/millstream/gen"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Options say what a gateway serves.
type Options struct {
	// Conn reaches the broker's services; required. Its limit for received
	// messages is the largest answer that can be shown.
	Conn grpc.ClientConnInterface
	// Metrics serves /metrics; nil: there is none.
	Metrics http.Handler
	// Ready returns why the broker cannot serve yet, nil if it can; required.
	Ready func() error
	// Logger takes what concerns the operator; nil: nothing is logged.
	Logger *slog.Logger
	// Registerer takes the gateway's metrics; nil: they are not shown.
	Registerer prometheus.Registerer
	// Limits bound what clients can ask for; zero fields are the defaults.
	Limits Limits
}

// Gateway serves HTTP. All methods may be called concurrently.
type Gateway struct {
	o       Options
	rest    *runtime.ServeMux
	bodies  *semaphore.Weighted // bytes of request bodies held at once
	metrics *metrics
}

// New returns a gateway that serves nothing yet.
func New(o Options) (*Gateway, error) {
	if o.Conn == nil || o.Ready == nil {
		return nil, errors.New("gateway: Conn and Ready are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.withDefaults()
	g := &Gateway{
		o:       o,
		bodies:  semaphore.NewWeighted(o.Limits.BodyBytesInFlight),
		metrics: newMetrics(o.Registerer),
	}
	g.rest = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newJSON()),
		runtime.WithMiddlewares(checkParams),
		runtime.WithErrorHandler(g.restError),
		runtime.WithStreamErrorHandler(g.streamError),
		runtime.WithRoutingErrorHandler(g.routingError),
		runtime.WithIncomingHeaderMatcher(noHeader),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithUnescapingMode(runtime.UnescapingModeAllCharacters),
		runtime.SetQueryParameterParser(strictQuery{}),
	)
	ctx := context.Background() // registering calls nothing
	if err := errors.Join(
		pb.RegisterBrokerServiceHandlerClient(ctx, g.rest, pb.NewBrokerServiceClient(o.Conn)),
		pb.RegisterTopicServiceHandlerClient(ctx, g.rest, pb.NewTopicServiceClient(o.Conn)),
		pb.RegisterClusterServiceHandlerClient(ctx, g.rest, pb.NewClusterServiceClient(o.Conn)),
	); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// noHeader keeps HTTP headers and gRPC metadata apart: nothing is read from
// them yet, and what is passed on unread today would be trusted tomorrow.
func noHeader(string) (string, bool) { return "", false }

// Run serves HTTP on lis until ctx ends, then lets running requests finish for
// at most stop, cuts off what is left, and returns. It closes lis.
func (g *Gateway) Run(ctx context.Context, lis net.Listener, stop time.Duration) error {
	srv := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: g.o.Limits.HeaderTimeout,
		IdleTimeout:       g.o.Limits.IdleTimeout,
		MaxHeaderBytes:    g.o.Limits.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(g.o.Logger.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() {
		done <- srv.Serve(netutil.LimitListener(counted{lis, &g.metrics.connections}, g.o.Limits.Connections))
	}()
	select {
	case err := <-done:
		return fmt.Errorf("gateway: %w", err)
	case <-ctx.Done():
	}
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stop)
	defer cancel()
	if srv.Shutdown(sctx) != nil {
		_ = srv.Close() // ends what did not end in time; its error is that of the listener closed above
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

// ServeHTTP answers a request.
func (g *Gateway) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := g.newWriter(rw, r)
	leave, ok := g.metrics.enter(g.o.Limits.Requests)
	defer func() {
		leave(route(r.URL.Path), w.status)
	}()
	if !ok {
		writeError(w, http.StatusTooManyRequests, overLimit("requests", int64(g.o.Limits.Requests), 0))
		return
	}
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/v1/"):
		g.serveREST(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		g.serveOther(w, r, path)
	case path == "/openapi.json":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Access-Control-Allow-Origin", "*") // it holds nothing but the API's shape
		_, _ = w.Write(gen.OpenAPI)                        // the client may have gone
	case path == "/healthz":
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	case path == "/readyz":
		g.serveReady(w)
	case path == "/metrics" && g.o.Metrics != nil:
		g.o.Metrics.ServeHTTP(w, r)
	default:
		writeError(w, http.StatusNotFound, unknownPath(r))
	}
}

// serveOther refuses what is neither REST nor a GET.
func (g *Gateway) serveOther(w http.ResponseWriter, r *http.Request, path string) {
	if route(path) == routeOther {
		writeError(w, http.StatusNotFound, unknownPath(r))
		return
	}
	w.Header().Set("Allow", "GET, HEAD")
	writeError(w, http.StatusMethodNotAllowed, wrongMethod(r))
}

func (g *Gateway) serveReady(w http.ResponseWriter) {
	if err := g.o.Ready(); err != nil {
		writeError(w, http.StatusServiceUnavailable, withReason(status.New(codes.Unavailable, err.Error()), reasonNotReady))
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (g *Gateway) serveREST(w *writer, r *http.Request) {
	release, st, code := g.admitBody(w, r)
	if st != nil {
		writeError(w, code, st)
		return
	}
	defer release()
	g.rest.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), writerKey{}, w)))
}
