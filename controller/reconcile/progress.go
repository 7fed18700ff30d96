package reconcile

import (
	"sync"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// progress is how far moves are, as the leaders said last. It is nothing that
// anybody decides by, and is not kept: a new active controller hears it with
// the next heartbeats.
//
// What it holds is bounded by what a heartbeat may say of moves, for each broker.
type progress struct {
	mu       sync.Mutex                             // guards byLeader; nothing else is done under it
	byLeader map[int32][]*controllerv1.MoveProgress // an entry is replaced as a whole
}

// hear takes what a broker says of the moves that it leads.
func (p *progress) hear(leader int32, moves []*controllerv1.MoveProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(moves) == 0 {
		delete(p.byLeader, leader)
		return
	}
	if p.byLeader == nil {
		p.byLeader = make(map[int32][]*controllerv1.MoveProgress)
	}
	p.byLeader[leader] = moves
}

// of returns what the leader of a partition has said of its move.
func (p *progress) of(r *controllerv1.PartitionRecord) []*controllerv1.ReplicaProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.byLeader[r.GetLeader()] {
		if m.GetPartition() == r.GetPartition() && string(m.GetTopicId()) == string(r.GetTopicId()) {
			return m.GetReplicas()
		}
	}
	return nil
}
