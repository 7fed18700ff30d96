package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millstream-io/millstream/controller/pace"
	"github.com/millstream-io/millstream/controller/store"
)

// diskHistograms are etcd's own of what it waits for its disk: writes and syncs
// of its log, which it does before anything else, and commits of its store. They
// are known by both name and help.
var diskHistograms = []prometheus.HistogramOpts{
	{Name: "etcd_disk_wal_write_duration_seconds", Help: "The latency distributions of write called by WAL."},
	{Name: "etcd_disk_wal_fsync_duration_seconds", Help: "The latency distributions of fsync called by WAL."},
	{Name: "etcd_disk_backend_commit_duration_seconds", Help: "The latency distributions of commit called by backend."},
}

// diskGatherer gathers diskHistograms and nothing else.
//
// WHY: etcd has them in the registry of the process, of which all is gathered or
// nothing: a millisecond, once a second. That a metric is there already comes with
// the one that is.
var diskGatherer = sync.OnceValues(func() (prometheus.Gatherer, error) {
	ours := prometheus.NewRegistry()
	for _, o := range diskHistograms {
		mine := prometheus.NewHistogram(o)
		err := prometheus.Register(mine)
		if err == nil {
			prometheus.Unregister(mine)
		}
		there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
		if !ok {
			return nil, errors.Join(fmt.Errorf("the store does not say how long its disk takes: it has no %s", o.Name), err)
		}
		if err := ours.Register(there.ExistingCollector); err != nil {
			return nil, err
		}
	}
	return ours, nil
})

// DiskCalls returns the writes and syncs of the disk that have ended since the
// process began. etcd counts those of all members of a process together.
func DiskCalls() (pace.Calls, error) {
	var c pace.Calls
	disk, err := diskGatherer()
	if err != nil {
		return c, err
	}
	families, err := disk.Gather()
	if err != nil {
		return c, fmt.Errorf("read how long the disk of the store takes: %w", err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			h := m.GetHistogram()
			buckets := make([]pace.Bucket, 0, len(h.GetBucket())+1)
			for _, b := range h.GetBucket() {
				buckets = append(buckets, pace.Bucket{Most: b.GetUpperBound(), Count: b.GetCumulativeCount()})
			}
			c.Add(append(buckets, pace.Bucket{Most: math.Inf(1), Count: h.GetSampleCount()}))
		}
	}
	return c, nil
}

// Others returns the other members that have a vote, as this member knows them.
func (m *Member) Others() []store.Member {
	var all []store.Member
	for _, p := range m.etcd.Server.Cluster().Members() {
		if p.IsLearner || p.ID == m.etcd.Server.MemberID() {
			continue
		}
		o := store.Member{Key: uint64(p.ID), ID: idOf(p.Name), Serves: servedAt(p.ClientURLs)}
		if len(p.PeerURLs) > 0 {
			o.URL = p.PeerURLs[0]
		}
		all = append(all, o)
	}
	return all
}

// servedAt returns where a member serves brokers; empty: nobody was told.
func servedAt(urls []string) string {
	if len(urls) == 0 {
		return ""
	}
	u, err := url.Parse(urls[0])
	if err != nil {
		return ""
	}
	return u.Host
}

// HandOverTo has a certain member lead, if this one leads. That one gets
// everything that is written before it does.
func (m *Member) HandOverTo(ctx context.Context, key uint64) error {
	if _, leading := m.Leadership(); !leading {
		return nil
	}
	if _, err := m.client.MoveLeader(ctx, key); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	return nil
}
