package reconcile

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

const (
	// answersKept bounds the answers that are kept for requests with an id; the
	// oldest go first. They are repeated within seconds, if at all.
	answersKept = 10_000
	// deletionsKept bounds the deletions that are remembered, and
	// deletionsKeptFor says for how long they are. A broker that was away for
	// longer reports what it holds of the topic instead of removing it.
	deletionsKept    = 20_000
	deletionsKeptFor = 30 * 24 * time.Hour
	// upkeepSlack is how far a bound is passed before anything is done, so that
	// it is done to many at a time.
	upkeepSlack = 100
)

// planUpkeep returns what is to be forgotten.
func (a *active) planUpkeep(v *image.View) []*store.Edit {
	var forget []store.Key
	if over := len(v.Answers) - answersKept; over > upkeepSlack {
		oldest := slices.SortedFunc(maps.Keys(v.Answers), func(x, y store.RequestID) int {
			return cmp.Compare(v.Answers[x].Revision, v.Answers[y].Revision)
		})
		for _, id := range oldest[:over] {
			forget = append(forget, store.RequestKey(id))
		}
	}
	if over := len(v.Deletions) - deletionsKept; over > upkeepSlack {
		oldest := slices.SortedFunc(maps.Keys(v.Deletions), func(x, y store.TopicID) int {
			return cmp.Compare(v.Deletions[x].GetRevision(), v.Deletions[y].GetRevision())
		})
		for _, id := range oldest[:over] {
			forget = append(forget, store.DeletionKey(id))
		}
	} else if now := a.o.Now(); now.Sub(a.upkept) > time.Hour {
		a.upkept = now
		for id, d := range v.Deletions {
			if now.Sub(time.UnixMilli(d.GetDeleteTimeMs())) > deletionsKeptFor {
				forget = append(forget, store.DeletionKey(id))
			}
		}
	}
	var edits []*store.Edit
	for ks := range slices.Chunk(forget, partitionsPerEdit) {
		e := new(store.Edit)
		for _, k := range ks {
			e.Delete(k)
		}
		edits = append(edits, e)
	}
	return edits
}
