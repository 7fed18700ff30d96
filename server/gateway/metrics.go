package gateway

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one gateway.
type metrics struct {
	connections atomic.Int64 // that are open
	running     atomic.Int64 // requests being answered
	bodies      atomic.Int64 // bytes that they hold, or may
	requests    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millstream_gateway_requests_total",
		Help: "HTTP requests answered, by route and HTTP status.",
	}, []string{"route", "status"})}
	if reg != nil {
		reg.MustRegister(m.requests,
			gauge("millstream_gateway_connections", "HTTP connections that are open. When there are max-connections, more wait to be accepted.", &m.connections),
			gauge("millstream_gateway_requests_running", "HTTP requests being answered now.", &m.running),
			gauge("millstream_gateway_body_bytes", "Bytes of bodies of HTTP requests being answered, with what many values in them take decoded.", &m.bodies))
	}
	return m
}

func gauge(name, help string, of *atomic.Int64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(of.Load()) })
}

// counted counts the connections of a listener. It belongs below whatever bounds
// them: a connection is not counted any more before the next one may come.
type counted struct {
	net.Listener
	open *atomic.Int64
}

// Accept is part of net.Listener.
func (l counted) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &countedConn{Conn: conn, ended: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type countedConn struct {
	net.Conn
	ended func()
}

// Close is part of net.Conn.
func (c *countedConn) Close() error {
	c.ended()
	return c.Conn.Close()
}

// enter counts a request in; ok is false when there are more than limit. leave
// must be called in any case.
func (m *metrics) enter(limit int) (leave func(route string, status int), ok bool) {
	ok = m.running.Add(1) <= int64(limit)
	return func(route string, status int) {
		m.running.Add(-1)
		m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	}, ok
}

const routeOther = "other"

// route names the place of a path in a bounded number of words.
func route(path string) string {
	switch path {
	case "/openapi.json", "/healthz", "/readyz", "/metrics":
		return path
	}
	if !strings.HasPrefix(path, "/v1/") {
		return routeOther
	}
	if parts := strings.Split(path, "/"); parts[2] == "topics" {
		return "/v1/topics"
	}
	return "/v1"
}
