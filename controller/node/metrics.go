package node

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millstream-io/millstream/controller/api"
	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/etcd"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/reconcile"
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// metrics reads its values from the running controller when it is asked.
type metrics struct {
	active, revision, topics, partitions, offline, brokers, fenced, impaired, watchers, storeBytes, elections, losses, moving, underReplicated, underMin, corrupt, diskDelay, handOvers, stale *prometheus.Desc

	mu      sync.Mutex // guards what follows, which is nil while nothing runs
	img     *image.Image
	loop    *reconcile.Loop
	service *api.Service
	member  *etcd.Member
	pacer   *pacer
}

func newMetrics() *metrics {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_controller_"+name, help, nil, nil)
	}
	return &metrics{
		active:          d("active", "1 on the active controller, 0 on the others. The sum over a cluster is 1."),
		revision:        d("revision", "Revision of the metadata that this controller has."),
		topics:          d("topics", "Topics of the cluster."),
		partitions:      d("partitions", "Partitions of the cluster."),
		offline:         d("offline_partitions", "Partitions that nobody leads: they take no writes."),
		brokers:         d("brokers", "Brokers that are registered."),
		fenced:          d("fenced_brokers", "Brokers that are registered and not to be counted on."),
		impaired:        d("impaired_brokers", "Brokers whose disks are in trouble: others lead, where they can."),
		watchers:        d("watchers", "Watches of the metadata that are open."),
		storeBytes:      d("store_bytes", "Size of the metadata store on disk."),
		elections:       d("elections_total", "Changes of partition leaders that this controller has made."),
		moving:          d("moving_partitions", "Partitions that are being moved to other brokers."),
		underReplicated: d("under_replicated_partitions", "Partitions that are led and have fewer replicas in sync than replicas, not counting those that are added for a move."),
		underMin:        d("under_min_isr_partitions", "Partitions that are led and have fewer replicas in sync than min.insync.replicas: they take no writes of acks all."),
		corrupt:         d("store_corrupt", "1 while the metadata stores of the controllers are known to differ and nothing is changed: for seconds, until the one that is wrong is taken out; for longer, if nobody can know which."),
		diskDelay:       d("disk_delay_seconds", "How long writes and syncs of the metadata store took in the last seconds, for whoever had to wait for one; 0: it has no others, or nothing was written."),
		handOvers:       d("hand_overs_total", "Times that this controller, while it was active, made another one active because its own disk was slow."),
		stale:           d("stale_authorities", "1 while the file of authorities for internal certificates has others than controllers trust among each other, which is until this one is started again."),
		losses:          d("lossy_elections_total", "Leaders that this controller has let lead though they may lack acknowledged records."),
	}
}

func (m *metrics) watch(img *image.Image, loop *reconcile.Loop, service *api.Service, member *etcd.Member, pacer *pacer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.img, m.loop, m.service, m.member, m.pacer = img, loop, service, member, pacer
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.active, m.revision, m.topics, m.partitions, m.offline, m.brokers, m.fenced, m.impaired, m.watchers, m.storeBytes, m.elections, m.losses, m.moving, m.underReplicated, m.underMin, m.corrupt, m.diskDelay, m.handOvers, m.stale,
	} {
		to <- d
	}
}

// Collect is part of prometheus.Collector. It visits every partition, once a
// scrape.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.img == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64) { to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	m.img.Read(func(v *image.View) {
		var partitions, offline, fenced, impaired, moving, underReplicated, underMin int
		for _, t := range v.Topics {
			partitions += len(t.Partitions)
			for _, p := range t.Partitions {
				led := p.Record.GetLeader() != election.NoLeader
				if !led {
					offline++
				}
				if len(p.Record.GetTargetReplicas()) > 0 {
					moving++
				}
				if led && isUnderReplicated(p.Record) {
					underReplicated++
				}
				if led && len(p.Record.GetInSyncReplicas()) < min(int(p.Record.GetMinInsyncReplicas()), len(p.Record.GetReplicas())) {
					underMin++
				}
			}
		}
		for _, b := range v.Brokers {
			if b.Record.GetFenced() {
				fenced++
			}
			if b.Record.GetImpairment() != controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED {
				impaired++
			}
		}
		gauge(m.revision, float64(v.Revision))
		gauge(m.topics, float64(len(v.Topics)))
		gauge(m.partitions, float64(partitions))
		gauge(m.offline, float64(offline))
		gauge(m.moving, float64(moving))
		gauge(m.underReplicated, float64(underReplicated))
		gauge(m.underMin, float64(underMin))
		gauge(m.brokers, float64(len(v.Brokers)))
		gauge(m.fenced, float64(fenced))
		gauge(m.impaired, float64(impaired))
	})
	active := 0.0
	if m.loop.Active() {
		active = 1
	}
	gauge(m.active, active)
	corrupt := 0.0
	if m.member.Corrupt() {
		corrupt = 1
	}
	gauge(m.corrupt, corrupt)
	gauge(m.watchers, float64(m.service.Watchers()))
	gauge(m.storeBytes, float64(m.member.StoredBytes()))
	stale := 0.0
	if m.member.StaleAuthorities() {
		stale = 1
	}
	gauge(m.stale, stale)
	gauge(m.diskDelay, m.pacer.Standing().Delay.Seconds())
	to <- prometheus.MustNewConstMetric(m.handOvers, prometheus.CounterValue, float64(m.pacer.HandOvers()))
	to <- prometheus.MustNewConstMetric(m.elections, prometheus.CounterValue, float64(m.loop.Elections()))
	to <- prometheus.MustNewConstMetric(m.losses, prometheus.CounterValue, float64(m.loop.Losses()))
}

// isUnderReplicated tells whether a replica is out of sync that is not being
// added.
func isUnderReplicated(r *controllerv1.PartitionRecord) bool {
	for _, id := range r.GetReplicas() {
		if !slices.Contains(r.GetInSyncReplicas(), id) && !slices.Contains(r.GetAddingReplicas(), id) {
			return true
		}
	}
	return false
}
