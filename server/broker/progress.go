package broker

import (
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

// mostMoves bounds what one heartbeat says of moves.
const mostMoves = 1_000

// moves says how far the moves are of what this broker leads.
func (b *Broker) moves() []*controllerv1.MoveProgress {
	var out []*controllerv1.MoveProgress
	for _, l := range b.allLogs() {
		w := l.want.Load()
		p := l.opened.Load()
		if len(w.part.Adding) == 0 || w.part.Leader != b.opts.ID || p == nil {
			continue
		}
		m := &controllerv1.MoveProgress{TopicId: l.key.topic[:], Partition: uint32(l.key.partition)}
		st := p.State()
		for _, lag := range p.Lags() {
			if lag.Added && !lag.InSync {
				m.Replicas = append(m.Replicas, &controllerv1.ReplicaProgress{
					BrokerId: int32(lag.ID), RecordsLeft: int64(lag.Records), BytesLeft: bytesOf(&st, lag.Records),
				})
			}
		}
		if out = append(out, m); len(out) == mostMoves {
			break
		}
	}
	return out
}

// bytesOf is about how many bytes the last records of a log have.
func bytesOf(st *partition.State, records record.Offset) int64 {
	all := st.End - st.LogStart
	if all <= 0 {
		return 0
	}
	return int64(float64(st.Bytes) * float64(min(records, all)) / float64(all))
}
