package dev

import (
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
	"github.com/millstream-io/millstream/server/metadata"
)

// toldAtOnce bounds the partitions of one line: what a broker is told first is
// everything.
const toldAtOnce = 1000

// told writes down what the broker was told of the metadata, before it acts on
// it. Revisions in which nothing else has changed are told too: it holds what it
// has up to them.
func (a *audit) told(before, next *metadata.Snapshot) {
	e := history.Metadata{Generation: next.Generation, Revision: next.Revision}
	n := 0
	for was, is := range next.ChangedTopics(before) {
		if is == nil {
			if next.TopicByName(was.Name) == nil { // else that says it
				e.Gone = append(e.Gone, was.Name)
			}
			continue
		}
		t := history.TopicState{Topic: is.Name, ID: is.ID.String()}
		if was == nil || was.Revision != is.Revision {
			t.Revision, t.Settings = is.Revision, is.Set
		}
		for i, p := range is.Partitions {
			if was != nil && i < len(was.Partitions) && was.Partitions[i] == p {
				continue
			}
			t.Partitions = append(t.Partitions, stateOf(p))
			if n++; n == toldAtOnce {
				e.Topics = append(e.Topics, t)
				a.tell(e, true)
				e.Topics, e.Gone, n = nil, nil, 0
				t = history.TopicState{Topic: is.Name, ID: is.ID.String()}
			}
		}
		if t.Revision > 0 || len(t.Partitions) > 0 {
			e.Topics = append(e.Topics, t)
		}
	}
	if len(e.Topics) > 0 || len(e.Gone) > 0 || next.Revision != before.Revision || next.Generation != before.Generation {
		a.tell(e, false)
	}
}

// tell writes down a piece; more says that it is not the last.
func (a *audit) tell(piece history.Metadata, more bool) {
	piece.More = more
	a.record(&history.Event{Kind: history.MetadataTold, Metadata: &piece})
}

func stateOf(p *metadata.Partition) history.PartitionState {
	return history.PartitionState{
		Partition: p.ID, Revision: p.Revision, Epoch: p.Epoch, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch,
		ISR: slices.Clone(p.ISR), Replicas: slices.Clone(p.Replicas),
	}
}
