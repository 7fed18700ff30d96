package millstream

// fifo is a queue. The zero fifo is empty.
type fifo[T any] struct {
	items []T
	head  int // items before it are gone
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(v T) {
	if q.head > 16 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// pushFront puts all before the first, keeping their order.
func (q *fifo[T]) pushFront(all []T) {
	if len(all) == 0 {
		return
	}
	q.items = append(append(make([]T, 0, len(all)+q.len()), all...), q.all()...)
	q.head = 0
}

func (q *fifo[T]) pop() (v T, ok bool) {
	if q.len() == 0 {
		return v, false
	}
	var zero T
	v, q.items[q.head] = q.items[q.head], zero
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v, true
}

// peek returns the first item.
//
// REQUIRES: there is one.
func (q *fifo[T]) peek() T { return q.items[q.head] }

// all returns the items in order. BORROWED until the queue changes.
func (q *fifo[T]) all() []T { return q.items[q.head:] }

// take empties the queue and returns what was in it.
func (q *fifo[T]) take() []T {
	all := q.all()
	*q = fifo[T]{}
	return all
}
