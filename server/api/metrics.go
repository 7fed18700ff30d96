package api

import (
	"github.com/prometheus/client_golang/prometheus"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/telemetry"
)

// brokerMetrics is what BrokerService counts. Labels have few values; none
// names a topic or a client.
type brokerMetrics struct {
	produceStreams  prometheus.Gauge
	produceRequests prometheus.Counter
	produceRecords  prometheus.Counter
	produceBytes    prometheus.Counter
	produceErrors   *prometheus.CounterVec
	streamWaiters   prometheus.Gauge
	streamWaits     prometheus.Counter

	fetchStreams       prometheus.Gauge
	fetchSubscriptions prometheus.Gauge
	fetchFrames        prometheus.Counter
	fetchRecords       prometheus.Counter
	fetchBytes         prometheus.Counter
	fetchReplicaBytes  prometheus.Counter
	fetchErrors        *prometheus.CounterVec

	stalled prometheus.Counter
	cut     prometheus.Counter

	forwarded prometheus.Counter
}

func newBrokerMetrics(reg prometheus.Registerer, reading, receiving *broker.Budget) (*brokerMetrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	now := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	reasons := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"reason"})
	}
	m := &brokerMetrics{
		produceStreams:  gauge("millstream_produce_streams", "Produce streams that are open."),
		produceRequests: counter("millstream_produce_requests_total", "Batches that were acknowledged or refused, by Produce and Append; a split request counts once for each partition."),
		produceRecords:  counter("millstream_produce_records_total", "Records that were acknowledged."),
		produceBytes:    counter("millstream_produce_bytes_total", "Bytes of batches that were acknowledged, as sent."),
		produceErrors:   reasons("millstream_produce_errors_total", "Batches that were refused or failed, by reason."),

		streamWaiters: gauge("millstream_produce_stream_waiters", "Produce streams that wait until fewer of their own bytes are in flight (stream-inflight-bytes)."),
		streamWaits:   counter("millstream_produce_stream_waits_total", "Times that a Produce stream had to wait until fewer of its own bytes were in flight (stream-inflight-bytes)."),

		fetchStreams:       gauge("millstream_fetch_streams", "Fetch streams and Read calls that are open."),
		fetchSubscriptions: gauge("millstream_fetch_subscriptions", "Subscriptions of all Fetch streams."),
		fetchFrames:        counter("millstream_fetch_frames_total", "Frames with records that were sent."),
		fetchRecords:       counter("millstream_fetch_offsets_total", "Offsets that were delivered, by Fetch and Read."),
		fetchBytes:         counter("millstream_fetch_bytes_total", "Bytes of batches or records that were sent."),
		fetchReplicaBytes:  counter("millstream_fetch_replica_bytes_total", "Bytes of batches or records that were sent from replicas that follow, to clients in their rack."),
		fetchErrors:        reasons("millstream_fetch_errors_total", "Subscriptions and Read calls that failed, by reason."),

		forwarded: counter("millstream_forwarded_requests_total", "Requests of clients that were passed on to the broker that leads: batches of Produce and Append, calls of Read, subscriptions of Fetch."),

		stalled: counter("millstream_streams_stalled_total", "Streams that were ended because the client did not read."),
		cut:     counter("millstream_connections_cut_total", "Connections that were cut because the client did not take the last frames of a stream that had ended."),
	}
	return m, telemetry.Register(reg, m.produceStreams, m.produceRequests, m.produceRecords, m.produceBytes, m.produceErrors, m.streamWaiters, m.streamWaits,
		m.fetchStreams, m.fetchSubscriptions, m.fetchFrames, m.fetchRecords, m.fetchBytes, m.fetchReplicaBytes, m.fetchErrors, m.stalled, m.cut, m.forwarded,
		now("millstream_produce_receiving_bytes", "Bytes that large Produce requests on their way may take.", receiving.Used),
		now("millstream_produce_receiving_limit_bytes", "The most that large Produce requests on their way may take (inflight-bytes).", receiving.Limit),
		now("millstream_produce_receiving_waiters", "Produce streams that wait to receive a large request.", receiving.Waiting),
		now("millstream_fetch_inflight_bytes", "Bytes that Fetch and Read hold: frames that are not written, and batches being decompressed.", reading.Used),
		now("millstream_fetch_inflight_limit_bytes", "Bytes that Fetch and Read may hold (fetch-inflight-bytes).", reading.Limit),
		now("millstream_fetch_inflight_waiters", "Streams that wait for the bytes that Fetch and Read may hold.", reading.Waiting))
}

// registerForwarding registers what is forwarded to other brokers, or held for
// clients of what they lead.
func registerForwarding(reg prometheus.Registerer, calls *forward.Calls, passing *broker.Budget) error {
	now := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	return telemetry.Register(reg,
		now("millstream_forwarding_calls", "Calls that are open to other brokers, streams included.", calls.Open),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "millstream_forwarding_calls_refused_total", Help: "Calls to other brokers that were refused because too many were open (forwarded.calls).",
		}, func() float64 { return float64(calls.Refused()) }),
		now("millstream_forwarding_fetch_held_bytes", "Bytes of frames that came of other brokers and are not sent yet; as many may be as Fetch and Read hold (fetch-inflight-bytes).", passing.Used),
		now("millstream_forwarding_fetch_held_waiters", "Links to other brokers that wait for room for their next frame.", passing.Waiting))
}

// registerInternal registers what the service for other brokers holds.
func registerInternal(reg prometheus.Registerer, s *BrokerService) error {
	now := func(name, help string, b *broker.Budget) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(b.Used()) })
	}
	return telemetry.Register(reg,
		now("millstream_forwarded_inflight_bytes", "Bytes of requests that other brokers forwarded and that are not answered; as many may be as of clients (inflight-bytes).", s.budget),
		now("millstream_forwarded_receiving_bytes", "Bytes that large forwarded requests on their way may take.", s.receiving),
		now("millstream_forwarded_fetch_inflight_bytes", "Bytes that Fetch and Read of other brokers hold; as many may be as of clients (fetch-inflight-bytes).", s.reading))
}

// produced counts what became of a unit.
func (m *brokerMetrics) produced(u *unit) {
	m.appended(&u.Request, u.fault)
}

func (m *brokerMetrics) appended(r *partition.Request, f *rpc.Fault) {
	m.produceRequests.Inc()
	if f != nil {
		m.produceErrors.WithLabelValues(reasonLabel(f.Reason)).Inc()
		return
	}
	m.produceRecords.Add(float64(r.Summary.Records))
	m.produceBytes.Add(float64(r.Summary.Bytes))
}

// delivered counts a frame of Fetch.
func (m *brokerMetrics) delivered(offsets, bytes int, ofFollower bool) {
	if ofFollower {
		m.fetchReplicaBytes.Add(float64(bytes))
	}
	m.fetchFrames.Inc()
	m.fetchRecords.Add(float64(offsets))
	m.fetchBytes.Add(float64(bytes))
}

// passed counts a frame of Fetch that another broker made.
func (m *brokerMetrics) passed(bytes uint64) {
	m.fetchFrames.Inc()
	m.fetchBytes.Add(float64(bytes))
}

func reasonLabel(r pb.ErrorReason) string { return rpc.ReasonName(r) }
