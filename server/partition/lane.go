package partition

import "errors"

// ErrPrecedingFailed says that an earlier request of the same Lane failed and
// none with Restart has come since. Nothing was written.
var ErrPrecedingFailed = errors.New("an earlier request failed")

// Lane keeps the order of one client's requests to a partition (rule T2): when
// one of them fails, those queued behind it are refused with
// ErrPrecedingFailed, until one that has Restart. Otherwise sending the failed
// one again would put it behind its successors.
//
// The zero value is ready. It belongs to the partition while that has requests
// of it.
type Lane struct{ failed bool }

// Failed reports whether requests of the lane are refused.
//
// REQUIRES: the partition has no request of the lane.
func (l *Lane) Failed() bool { return l.failed }

// keepOrder takes the requests out of a group that may not be written because
// an earlier one of their lane failed, and completes them.
func (p *Partition) keepOrder(q *queue) {
	var kept, refused queue
	for !q.empty() {
		r := q.pop()
		if r.Restart && r.Lane != nil {
			r.Lane.failed = false
		}
		if r.Lane != nil && r.Lane.failed {
			refused.push(r)
		} else {
			kept.push(r)
		}
	}
	*q = kept
	if !refused.empty() {
		p.refuse(&refused, ErrPrecedingFailed)
	}
}

// fail notes why a request is not acknowledged. Its lane knows at once, also
// when the answer has to wait for those before it: what comes behind it now
// must not be written.
func (r *Request) fail(err error) {
	r.Err = err
	if r.Lane == nil {
		return
	}
	if r.Restart {
		r.Lane.failed = false
	}
	// Of requests that fail together only the first has the reason.
	if r.Lane.failed && !errors.Is(err, ErrUnknownOutcome) {
		r.Err = ErrPrecedingFailed
	}
	r.Lane.failed = true
}
