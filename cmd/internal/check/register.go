package check

import (
	"cmp"
	"maps"
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// register is something that the metadata holds and that has one version after
// the other: the settings of a topic, the record of a partition.
//
// WHY no search for an order in which all can have been: every version has a
// number that says where it comes, and a revision of all metadata from which on
// it is there. What is left is to look that all go by them.
type register[V value[V]] struct {
	scribe
	versions map[int64]*version[V]
	newest   mark // the greatest number that was told
}

// value is what a register holds.
type value[V any] interface {
	// join returns what is known of a value that two have told of, and whether
	// what they said can be the same.
	join(other V) (V, bool)
	String() string
}

// version is a value and who told it.
type version[V value[V]] struct {
	number   int64
	revision int64 // from which on it is there; 0: nobody has said
	value    V
	t        int64 // when it was first told
	at       history.Location
	current  mark // the greatest revision at which somebody took it for the newest
}

// told takes that somebody says what a version is. revision may be 0.
func (r *register[V]) told(number, revision int64, v V, e *history.Event) *version[V] {
	r.judged(R24)
	r.newest.raise(number, e.At)
	x := r.versions[number]
	if x == nil {
		x = &version[V]{number: number, revision: revision, value: v, t: e.T, at: e.At}
		r.versions[number] = x
		return x
	}
	joined, same := x.value.join(v)
	switch {
	case !same:
		r.violated(R24, at(x.at, e.At), "version %d of the metadata is %v, and %v", number, x.value, v)
	case revision > 0 && x.revision > 0 && revision != x.revision:
		r.violated(R24, at(x.at, e.At), "version %d of the metadata is there from revision %d on, and from %d", number, x.revision, revision)
	default:
		x.value, x.revision = joined, max(x.revision, revision)
	}
	return x
}

// inOrder returns the versions by number.
func (r *register[V]) inOrder() []*version[V] {
	return slices.SortedFunc(maps.Values(r.versions), func(a, b *version[V]) int { return cmp.Compare(a.number, b.number) })
}

// finish looks whether somebody took a version for the newest when another was:
// whether somebody missed one, or they came in another order. Who tells from
// which revision on one is there takes it for the newest of that at least.
func (r *register[V]) finish(all []*version[V]) {
	var next *version[V] // the next one of which a revision is known
	for _, x := range slices.Backward(all) {
		if next != nil {
			r.judged(R24)
			if x.current.n >= next.revision {
				r.violated(R24, at(next.at, x.current.at), "version %d is there from revision %d on, and version %d was told as the newest of revision %d", next.number, next.revision, x.number, x.current.n)
			}
		}
		if x.revision > 0 {
			next = x
		}
	}
}
