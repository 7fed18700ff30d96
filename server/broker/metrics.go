package broker

import (
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/telemetry"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// metrics are those of one broker. Counters are raised once for each group or
// sync, never for each record; what can be counted when somebody looks is
// counted then.
type metrics struct {
	flusher         *flusherMetrics
	batches         prometheus.Counter
	records         prometheus.Counter
	bytes           prometheus.Counter
	groups          prometheus.Counter
	appendFailures  *prometheus.CounterVec
	quarantined     prometheus.Counter
	tailCut         prometheus.Counter
	openSeconds     prometheus.Histogram
	openFailures    prometheus.Counter
	openRefusals    prometheus.Counter
	segmentsSealed  prometheus.Counter
	segmentsRemoved prometheus.Counter
	upkeepErrors    *prometheus.CounterVec

	followedPushes prometheus.Counter
	followedBytes  prometheus.Counter
	mended         prometheus.Counter
	scrubbed       prometheus.Counter
	lost           prometheus.Counter
	proposals      *prometheus.CounterVec
	handOvers      *prometheus.HistogramVec
	isrShrinks     prometheus.Counter
	isrExpands     prometheus.Counter
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "millstream", Subsystem: "log", Name: name, Help: help})
}

// newMetrics registers the metrics of a broker.
func newMetrics(reg prometheus.Registerer, b *Broker) (*metrics, error) {
	m := &metrics{
		flusher:     newFlusherMetrics(),
		batches:     counter("appended_batches_total", "Batches appended."),
		records:     counter("appended_records_total", "Records appended."),
		bytes:       counter("appended_bytes_total", "Bytes of batches appended, as sent."),
		groups:      counter("appended_groups_total", "Groups appended: one write each."),
		quarantined: counter("quarantined_total", "Partitions in which damage was found."),
		tailCut:     counter("tail_cut_total", "Logs whose torn tail was cut when they were opened."),
		appendFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "millstream", Subsystem: "log", Name: "append_failures_total",
			Help: "Batches that storage did not take, by reason: disk_full, read_only, too_many_files, write_failed, log_failed.",
		}, []string{"reason"}),
		openSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "millstream", Subsystem: "log", Name: "open_seconds", Help: "Time to open and recover a log.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}),
		openFailures:    counter("open_failures_total", "Logs that could not be opened."),
		openRefusals:    counter("open_refusals_total", "Times that a log was asked for between attempts to open it, or when another would be in vain."),
		segmentsSealed:  counter("sealed_segments_total", "Segments sealed."),
		segmentsRemoved: counter("removed_segments_total", "Segments removed."),
		followedPushes:  counter("followed_pushes_total", "Ranges of leaders' logs that were written: one write each."),
		followedBytes:   counter("followed_bytes_total", "Bytes of leaders' logs that were written."),
		mended:          counter("repaired_total", "Damaged replicas that began anew, to get everything from their leaders."),
		scrubbed:        counter("scrubbed_bytes_total", "Bytes that were read to find damage before a client does."),
		lost:            counter("lost_records_total", "Committed records that were cut, since no leader had them any more."),
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "millstream", Subsystem: "log", Name: "in_sync_proposals_total",
			Help: "Proposals of who is in sync, or to lead instead, by outcome: altered, refused, unknown.",
		}, []string{"outcome"}),
		handOvers: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "millstream", Subsystem: "log", Name: "hand_over_seconds",
			Help:    "For how long a leader that was to hand over took no records, by outcome: handed_over, given_up.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 10),
		}, []string{"outcome"}),
		isrShrinks: counter("isr_shrinks_total", "Replicas that went out of sync, of what the broker leads."),
		isrExpands: counter("isr_expands_total", "Replicas that came in sync, of what the broker leads."),
		upkeepErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "millstream", Subsystem: "broker", Name: "upkeep_errors_total",
			Help: "Background work that failed and will be tried again, by task: checkpoint, retention, trash.",
		}, []string{"task"}),
	}
	all := []prometheus.Collector{
		m.followedPushes, m.followedBytes, m.mended, m.scrubbed, m.lost, m.proposals, m.handOvers, m.batches, m.records, m.bytes, m.groups, m.appendFailures, m.quarantined, m.tailCut, m.openSeconds, m.openFailures, m.openRefusals,
		m.segmentsSealed, m.segmentsRemoved, m.upkeepErrors, m.isrShrinks, m.isrExpands, newCensus(b), newReplicaCensus(b),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "millstream", Subsystem: "broker", Name: "clock_step_seconds",
			Help: "By how much the time of day was set since it was last believed. Beyond a minute, and for a day, nothing is removed that was not old before.",
		}, func() float64 { return b.calendar.Step().Seconds() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "millstream", Subsystem: "broker", Name: "metadata_differences_total",
			Help: "How often the metadata of the broker was not what a controller had; all of it is asked for anew then.",
		}, func() float64 { return float64(b.mirror.Differed()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "millstream", Subsystem: "broker", Name: "metadata_bytes_total",
			Help: "Bytes of metadata that came from controllers, confirmations that nothing has changed included.",
		}, func() float64 { return float64(b.mirror.Received()) }),
	}
	return m, telemetry.Register(reg, append(all, m.flusher.collectors()...)...)
}

func (m *metrics) opened(took time.Duration, err error) {
	if err != nil {
		m.openFailures.Inc()
		return
	}
	m.openSeconds.Observe(took.Seconds())
}

// inSync counts who went out of sync or came in sync while this broker led.
func (m *metrics) inSync(was, is *metadata.Partition) {
	if was.LeaderEpoch != is.LeaderEpoch {
		return // who led before has counted, or is gone
	}
	for _, id := range was.ISR {
		if !slices.Contains(is.ISR, id) {
			m.isrShrinks.Inc()
		}
	}
	for _, id := range is.ISR {
		if !slices.Contains(was.ISR, id) {
			m.isrExpands.Inc()
		}
	}
}

// observer tells the metrics and the broker what happens in its logs.
type observer struct {
	b *Broker
	l *localLog
}

var (
	_ partition.Observer = observer{}
	_ commitlog.Observer = observer{}
)

// Appended counts a group.
func (o observer) Appended(batches, records, bytes int) {
	m := o.b.metrics
	m.groups.Inc()
	m.batches.Add(float64(batches))
	m.records.Add(float64(records))
	m.bytes.Add(float64(bytes))
}

// AppendFailed counts batches that were not taken.
func (o observer) AppendFailed(batches int, err error) {
	o.b.metrics.appendFailures.WithLabelValues(reasonOf(err)).Add(float64(batches))
}

// Quarantined counts a damaged partition, and has it repaired if others have
// its records.
func (o observer) Quarantined(error) {
	o.b.metrics.quarantined.Inc()
	o.b.damaged(o.l)
}

// LogFailed fails the directory, unless it is only that a write could not be
// taken back, which is that log's own trouble (rule S9).
func (o observer) LogFailed(err error) {
	if endsDirectory(err) {
		o.b.failDirectory(err)
	}
}

// Followed counts what was written of the logs of leaders.
func (o observer) Followed(bytes int) {
	o.b.metrics.followedPushes.Inc()
	o.b.metrics.followedBytes.Add(float64(bytes))
}

// Lost counts committed records that no leader has any more.
func (o observer) Lost(records record.Offset) { o.b.metrics.lost.Add(float64(records)) }

// HandedOver notes how long a partition took no records.
func (o observer) HandedOver(took time.Duration, done bool) {
	outcome := "given_up"
	if done {
		outcome = "handed_over"
	}
	o.b.metrics.handOvers.WithLabelValues(outcome).Observe(took.Seconds())
}

// Sealed counts a sealed segment.
func (o observer) Sealed(int64) { o.b.metrics.segmentsSealed.Inc() }

// Removed counts removed segments.
func (o observer) Removed(segments int, _ int64) { o.b.metrics.segmentsRemoved.Add(float64(segments)) }

func reasonOf(err error) string {
	w, ok := errors.AsType[*commitlog.WriteError](err)
	if !ok {
		return "log_failed"
	}
	switch w.Kind {
	case commitlog.DiskFull:
		return "disk_full"
	case commitlog.ReadOnly:
		return "read_only"
	case commitlog.TooManyFiles:
		return "too_many_files"
	case commitlog.WriteFailed:
	}
	return "write_failed"
}

// flusherMetrics are those of a Flusher.
type flusherMetrics struct {
	waiting  prometheus.Gauge
	running  prometheus.Gauge
	seconds  prometheus.Histogram
	failures prometheus.Counter
	refusals prometheus.Counter
}

func newFlusherMetrics() *flusherMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "millstream", Subsystem: "flusher", Name: name, Help: help})
	}
	return &flusherMetrics{
		waiting: gauge("waiting_syncs", "Syncs that wait for their turn."),
		running: gauge("running_syncs", "Syncs under way."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "millstream", Subsystem: "flusher", Name: "sync_seconds",
			Help:    "Time of a sync of a log. Its count is the number of syncs.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "millstream", Subsystem: "flusher", Name: "sync_failures_total",
			Help: "Syncs that failed. The first is final for the log directory.",
		}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "millstream", Subsystem: "flusher", Name: "sync_refusals_total",
			Help: "Syncs that could not be begun, as there was no descriptor, and are tried again.",
		}),
	}
}

func (m *flusherMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.waiting, m.running, m.seconds, m.failures, m.refusals}
}

func (m *flusherMetrics) took(d time.Duration, err error) {
	m.seconds.Observe(d.Seconds())
	switch {
	case err == nil:
	case endsDirectory(err):
		m.failures.Inc()
	default:
		m.refusals.Inc()
	}
}

// census counts what there is when somebody looks.
type census struct {
	b                                                    *Broker
	logs, open, held, waiters, failed, used, wait, files *prometheus.Desc
	fileOpens, delay, impaired, waits                    *prometheus.Desc
}

func newCensus(b *Broker) *census {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_broker_"+name, help, nil, nil)
	}
	return &census{
		b:         b,
		logs:      desc("partitions", "Partitions that the broker holds."),
		open:      desc("open_partitions", "Partitions whose log is open."),
		held:      desc("mailbox_requests", "Produce requests admitted and not answered, in all partitions."),
		waiters:   desc("waiting_readers", "Readers that wait at the end of a partition."),
		failed:    desc("failed_directories", "Log directories that have failed."),
		used:      desc("inflight_bytes", "Bytes of produce requests in flight."),
		wait:      desc("inflight_waiters", "Produce requests that wait for the budget of bytes in flight."),
		waits:     desc("inflight_waits_total", "Times that a produce request had to wait for the budget of bytes in flight."),
		files:     desc("open_files", "Files of segments that are open."),
		fileOpens: desc("file_opens_total", "Files of segments opened. If it grows fast, more are in use than may be open."),
		delay:     desc("disk_delay_seconds", "How long writes and syncs took in the last seconds, for whoever had to wait for one."),
		impaired: prometheus.NewDesc("millstream_broker_impaired",
			"1 while the broker finds that this is the matter with its disk, and others should lead, by reason: slow_disk, disk_full, disk_read_only, disk_error.",
			[]string{"reason"}, nil),
	}
}

// Describe lists the metrics.
func (c *census) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.logs, c.open, c.held, c.waiters, c.failed, c.used, c.wait, c.waits, c.files, c.fileOpens, c.delay, c.impaired} {
		ch <- d
	}
}

// Collect counts.
func (c *census) Collect(ch chan<- prometheus.Metric) {
	logs := c.b.allLogs()
	open, held, waiters, failed := 0, 0, 0, 0
	for _, l := range logs {
		if p := l.opened.Load(); p != nil {
			open++
			held += p.Held()
			waiters += p.Waiting()
		}
	}
	if c.b.Failure() != nil {
		failed = 1
	}
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(c.logs, float64(len(logs)))
	gauge(c.open, float64(open))
	gauge(c.held, float64(held))
	gauge(c.waiters, float64(waiters))
	gauge(c.failed, float64(failed))
	gauge(c.used, float64(c.b.budget.Used()))
	gauge(c.wait, float64(c.b.budget.Waiting()))
	ch <- prometheus.MustNewConstMetric(c.waits, prometheus.CounterValue, float64(c.b.budget.Waits()))
	files := c.b.files.Counts()
	gauge(c.files, float64(files.Open))
	gauge(c.delay, time.Duration(c.b.disk.delay.Load()).Seconds())
	for i, is := unimpaired+1, c.b.impairment(); i < impairments; i++ {
		v := 0.0
		if i == is {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(c.impaired, prometheus.GaugeValue, v, i.String())
	}
	ch <- prometheus.MustNewConstMetric(c.fileOpens, prometheus.CounterValue, float64(files.Opened))
}
