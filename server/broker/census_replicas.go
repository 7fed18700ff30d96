package broker

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millstream-io/millstream/server/metadata"
)

// replicaCensus counts, when somebody looks, how the replicas are of what this
// broker leads. How far followers are behind is by broker: as many series as
// there are others in the cluster.
type replicaCensus struct {
	b                                        *Broker
	leads, underReplicated, underMin, moving *prometheus.Desc
	lagRecords, lagBytes                     *prometheus.Desc
}

func newReplicaCensus(b *Broker) *replicaCensus {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_broker_"+name, help, labels, nil)
	}
	return &replicaCensus{
		b:               b,
		leads:           desc("leader_partitions", "Partitions that the broker leads."),
		underReplicated: desc("under_replicated_partitions", "Partitions that the broker leads and that have fewer replicas in sync than replicas, not counting those that are added for a move."),
		underMin:        desc("under_min_isr_partitions", "Partitions that the broker leads and that have fewer replicas in sync than min.insync.replicas: they take no writes of acks all."),
		moving:          desc("moving_partitions", "Partitions that the broker leads and that are being moved."),
		lagRecords:      desc("follower_lag_records", "Records that a follower lacks of what this broker leads, about a second old, by the broker that follows.", "follower"),
		lagBytes:        desc("follower_lag_bytes", "Their bytes in the log, about.", "follower"),
	}
}

// Describe lists the metrics.
func (c *replicaCensus) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.leads, c.underReplicated, c.underMin, c.moving, c.lagRecords, c.lagBytes} {
		ch <- d
	}
}

// Collect counts.
func (c *replicaCensus) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var leads, underReplicated, underMin, moving int
	lags := make(map[int32]lagging)
	for _, l := range c.b.allLogs() {
		part := l.want.Load().part
		if part.Leader != c.b.opts.ID {
			continue
		}
		leads++
		if isUnderReplicated(part) {
			underReplicated++
		}
		if len(part.ISR) < part.EffectiveMinISR() {
			underMin++
		}
		if len(part.Target) > 0 {
			moving++
		}
		l.lags(part, lags)
	}
	gauge(c.leads, float64(leads))
	gauge(c.underReplicated, float64(underReplicated))
	gauge(c.underMin, float64(underMin))
	gauge(c.moving, float64(moving))
	for id, lag := range lags {
		name := strconv.Itoa(int(id))
		gauge(c.lagRecords, float64(lag.records), name)
		gauge(c.lagBytes, float64(lag.bytes), name)
	}
}

// isUnderReplicated tells whether a replica is out of sync that is not being
// added.
func isUnderReplicated(p *metadata.Partition) bool {
	for _, id := range p.Replicas {
		if !slices.Contains(p.ISR, id) && !slices.Contains(p.Adding, id) {
			return true
		}
	}
	return false
}

// lagging is how far one follower is behind.
type lagging struct{ records, bytes int64 }

// lags adds how far the followers of a partition are behind. Those that have
// everything are there too.
func (l *localLog) lags(part *metadata.Partition, all map[int32]lagging) {
	for _, id := range part.Replicas {
		if _, there := all[id]; !there && id != l.b.opts.ID {
			all[id] = lagging{}
		}
	}
	p := l.opened.Load()
	if p == nil {
		return
	}
	list := p.Lags()
	if len(list) == 0 {
		return
	}
	st := p.State()
	for _, lag := range list {
		sum := all[int32(lag.ID)]
		sum.records += int64(lag.Records)
		sum.bytes += bytesOf(&st, lag.Records)
		all[int32(lag.ID)] = sum
	}
}
