package growth

import (
	"context"
	"fmt"
	"slices"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// kind says what happened to a partition.
type kind int

const (
	began kind = iota // a move did
	ended
	joined // a replica came in sync
	left
	handed // another broker leads
	kinds
)

// String says it behind a number of partitions.
func (k kind) String() string {
	return [kinds]string{"moves begun", "moves ended", "replicas in sync", "replicas out of sync", "leaders changed"}[k]
}

// event is something that happened, so long after the phase had begun.
type event struct {
	at   time.Duration
	kind kind
}

// happened notes an event.
func (l *load) happened(k kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[l.phase] = append(l.events[l.phase], event{time.Since(l.began), k})
}

// watchEvery is how often partitions are looked at: what happens and is undone
// in between is not seen.
const watchEvery = 100 * time.Millisecond

// watch notes what happens to the partitions, until ctx ends.
func (r *run) watch(ctx context.Context) error {
	var before []*pb.Partition
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		got, err := r.client.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: topic, MetadataOnly: true})
		if err != nil {
			continue // the broker that is asked may have just begun
		}
		now := got.GetPartitions()
		if before == nil {
			before = now
		}
		if len(before) != len(now) {
			return fmt.Errorf("watch: the topic has %d partitions, and had %d", len(now), len(before))
		}
		for i := range now {
			if before[i].GetPartitionEpoch() >= now[i].GetPartitionEpoch() {
				continue // who was asked may be behind who was asked before
			}
			for _, k := range differences(before[i], now[i]) {
				r.l.happened(k)
			}
			before[i] = now[i]
		}
	}
}

// differences returns what happened to a partition between two looks at it.
func differences(was, is *pb.Partition) []kind {
	var ks []kind
	switch from, to := len(was.GetTargetReplicas()) > 0, len(is.GetTargetReplicas()) > 0; {
	case !from && to:
		ks = append(ks, began)
	case from && !to:
		ks = append(ks, ended)
	}
	for _, id := range is.GetInSyncReplicas() {
		if !slices.Contains(was.GetInSyncReplicas(), id) {
			ks = append(ks, joined)
		}
	}
	for _, id := range was.GetInSyncReplicas() {
		if !slices.Contains(is.GetInSyncReplicas(), id) && slices.Contains(is.GetReplicas(), id) {
			ks = append(ks, left)
		}
	}
	if was.GetLeader().GetBrokerId() != is.GetLeader().GetBrokerId() {
		ks = append(ks, handed)
	}
	return ks
}
