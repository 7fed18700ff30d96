package peers

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what peers count.
type metrics struct {
	lost *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, p *Peers) (*metrics, error) {
	m := &metrics{lost: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millstream_peers_lost_total",
		Help: "Connections to other brokers that were refused or ended by the other side, or on which it was silent, by problem.",
	}, []string{"problem"})}
	conns := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millstream_peers_connections",
		Help: "Other brokers that there is a connection for, whether it is up or not.",
	}, func() float64 { return float64(p.count()) })
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.lost, conns} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
