package metadata

import (
	"hash/maphash"
	"iter"
	"reflect"
)

// shardCount bounds what a change copies: one shard of each map it touches.
// 256 keeps a shard of 10,000 topics at 40 entries and the array at 2 KiB.
const shardCount = 256

// cow is a map of which every change makes a new one that shares what did not
// change. The zero value is empty. Values of it are immutable.
type cow[K comparable, V any] struct {
	shards *[shardCount]map[K]V
	size   int
}

func (c cow[K, V]) get(hash uint64, k K) (V, bool) {
	if c.shards == nil {
		var zero V
		return zero, false
	}
	v, ok := c.shards[hash%shardCount][k]
	return v, ok
}

func (c cow[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if c.shards == nil {
			return
		}
		for _, m := range c.shards {
			for k, v := range m {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// cowEdit is a series of changes to one cow. One goroutine.
type cowEdit[K comparable, V any] struct {
	cow[K, V]
	hash  func(K) uint64
	owned [shardCount]bool // shards copied by this edit, which it may write
	fresh bool             // the array is this edit's
}

func edit[K comparable, V any](c cow[K, V], hash func(K) uint64) *cowEdit[K, V] {
	return &cowEdit[K, V]{cow: c, hash: hash}
}

func (e *cowEdit[K, V]) lookup(k K) (V, bool) { return e.get(e.hash(k), k) }

func (e *cowEdit[K, V]) put(k K, v V) {
	m := e.writable(k)
	if _, ok := m[k]; !ok {
		e.size++
	}
	m[k] = v
}

func (e *cowEdit[K, V]) remove(k K) {
	if _, ok := e.lookup(k); ok {
		delete(e.writable(k), k)
		e.size--
	}
}

func (e *cowEdit[K, V]) writable(k K) map[K]V {
	if !e.fresh {
		shards := new([shardCount]map[K]V)
		if e.shards != nil {
			*shards = *e.shards
		}
		e.shards, e.fresh = shards, true
	}
	i := e.hash(k) % shardCount
	if !e.owned[i] {
		m := make(map[K]V, len(e.shards[i])+1)
		for k, v := range e.shards[i] {
			m[k] = v
		}
		e.shards[i], e.owned[i] = m, true
	}
	return e.shards[i]
}

// done returns the edited map; the edit is not to be used any more.
func (e *cowEdit[K, V]) done() cow[K, V] { return e.cow }

var hashSeed = maphash.MakeSeed()

func hashString(s string) uint64   { return maphash.String(hashSeed, s) }
func hashTopicID(t TopicID) uint64 { return maphash.Bytes(hashSeed, t[:]) }

func (c cow[K, V]) shard(i int) map[K]V {
	if c.shards == nil {
		return nil
	}
	return c.shards[i]
}

// sameMap reports whether a and b are one map, not whether they are equal.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}
