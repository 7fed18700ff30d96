package broker

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/server/metadata"
)

// recovered says where logs end that the controller asks for: of partitions
// that nobody leads, since none of their replicas is trusted to have
// everything (rule H4). A log that is not open yet is opened in the background,
// and the next heartbeat has it.
//
// Of a partition that comes from a backup it says whether there was a log when
// this broker came to the cluster's generation, and where that ends once it is
// a replica.
//
// INVARIANT: nothing is appended to a log that is told of before its partition
// has a leader again: the metadata of s, of which this broker has carried out
// all that concerns the log, says that nobody leads.
func (b *Broker) recovered(s *metadata.Snapshot, wanted []*controllerv1.WantedLog) []*controllerv1.RecoveredLog {
	var logs []*controllerv1.RecoveredLog
	for _, w := range wanted {
		var id metadata.TopicID
		if copy(id[:], w.GetTopicId()) != len(id) {
			continue
		}
		t := s.TopicByID(id)
		if t == nil {
			continue
		}
		part := t.Partition(w.GetPartition())
		k := keyOf(id, w.GetPartition())
		if part == nil || part.Leader != metadata.NoLeader {
			continue
		}
		if part.FromBackup {
			there, ok := b.found.has(k, s.Generation)
			if !ok {
				continue // it is not known yet
			}
			if !there || !slices.Contains(part.Replicas, b.opts.ID) || !holds(part, b.opts.ID, b.identity.Load().DirectoryID) {
				logs = append(logs, &controllerv1.RecoveredLog{TopicId: w.GetTopicId(), Partition: w.GetPartition(), Absent: !there})
				continue
			}
		}
		l := b.log(k)
		if l == nil {
			continue
		}
		p := l.opened.Load()
		if p == nil {
			b.errand.add(func() {
				if _, err := l.open(); err == nil { // else it is logged there
					b.beatNow()
				}
			})
			continue
		}
		if seen := l.carried.Load(); seen == nil || seen.part != part {
			continue
		}
		end := p.State().End
		logs = append(logs, &controllerv1.RecoveredLog{
			TopicId: w.GetTopicId(), Partition: w.GetPartition(), End: int64(end), LastLeaderEpoch: max(0, int32(p.EpochBefore(end))),
		})
	}
	return logs
}

// opensAtOnce is how many logs are opened at once at a start.
const opensAtOnce = 8

// lookThrough opens the logs of partitions that others hold as well, after a
// stop that was not orderly: what is the matter with them is to be known
// before any of them is counted on.
func (b *Broker) lookThrough(ctx context.Context) {
	var opens errgroup.Group
	opens.SetLimit(opensAtOnce)
	for _, l := range b.allLogs() {
		if len(l.want.Load().part.Replicas) < 2 || ctx.Err() != nil {
			continue
		}
		opens.Go(func() error {
			if _, err := l.open(); err != nil && !wasRefused(err) && !errors.Is(err, errUntold) && l.want.Load().counted(b.opts.ID) {
				b.doubtOpen(l, nil) // what opening itself finds is told there
			}
			return nil
		})
	}
	_ = opens.Wait() // none returns one
}
