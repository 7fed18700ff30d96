package broker

import (
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/server/metadata"
)

// recovered says where logs end that the controller asks for: of partitions
// that nobody leads, since none of their replicas is trusted to have
// everything (rule H4). A log that is not open yet is opened in the background,
// and the next heartbeat has it.
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
		l := b.log(keyOf(id, w.GetPartition()))
		if part == nil || part.Leader != metadata.NoLeader || l == nil {
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
