package tlsfile

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// noContext is for logging, which has none.
var noContext = context.Background()

// metrics is what a source counts.
type metrics struct {
	reloads, failures prometheus.Counter
	refused           *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, use string, untilExpiry func() float64) (*metrics, error) {
	labels := prometheus.Labels{"use": use}
	m := &metrics{
		reloads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millstream_tls_reloads_total", ConstLabels: labels,
			Help: "Times that changed files of certificates were taken up.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millstream_tls_reload_failures_total", ConstLabels: labels,
			Help: "Times that changed files of certificates were wrong; the ones before stay in use, and the log says why.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millstream_tls_refused_handshakes_total", ConstLabels: labels,
			Help: "gRPC connections whose handshake failed, by problem.",
		}, []string{"problem"}),
	}
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millstream_tls_certificate_expiry_seconds", ConstLabels: labels,
		Help: "How long the certificate in use is still valid; negative once it has expired.",
	}, untilExpiry)
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.reloads, m.failures, m.refused, expiry} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
