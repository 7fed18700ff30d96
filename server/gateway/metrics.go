package gateway

import (
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one gateway.
type metrics struct {
	running  atomic.Int64 // requests being answered
	requests *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millstream_gateway_requests_total",
		Help: "HTTP requests answered, by route and HTTP status.",
	}, []string{"route", "status"})}
	if reg != nil {
		reg.MustRegister(m.requests, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "millstream_gateway_requests_running",
			Help: "HTTP requests being answered now.",
		}, func() float64 { return float64(m.running.Load()) }))
	}
	return m
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
