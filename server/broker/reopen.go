package broker

import (
	"errors"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/segment"
)

// A log that could not be opened is not opened again by everybody who asks:
// opening reads, and a client could make the broker read a broken log for each
// request. Between attempts the last error is the answer.
const (
	reopenPause     = time.Second      // after the first failure; twice as long after each
	reopenPauseMost = 30 * time.Second // and no longer than this
)

// circumstances are what the opening of a log depends on, beside the disk.
type circumstances struct {
	want     *wanted
	identity *Incarnation
}

// refusal is that a log could not be opened. It is immutable.
type refusal struct {
	err   error
	under circumstances
	// lasting says that it will be so as long as the circumstances are the same.
	lasting bool
	at      time.Time
	pause   time.Duration
}

// stands tells whether it is still the answer. A nil one never is.
func (r *refusal) stands(under circumstances, now time.Time) bool {
	if r == nil || r.under != under {
		return false
	}
	passed := now.Sub(r.at)
	// WHY the sign: a clock that was set back must not make the pause longer.
	return r.lasting || passed >= 0 && passed < r.pause
}

// again returns the refusal that follows r, which may be nil.
func (r *refusal) again(err error, under circumstances, at time.Time) *refusal {
	pause := reopenPause
	if r != nil && r.under == under {
		pause = min(2*r.pause, reopenPauseMost)
	}
	return &refusal{err: err, under: under, lasting: isLasting(err), at: at, pause: pause}
}

// isLasting tells whether another attempt to open a log would end the same
// way: it is damaged, or another's, or lies in another directory.
func isLasting(err error) bool {
	if _, ok := errors.AsType[*segment.CorruptError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*segment.MismatchError](err); ok {
		return true
	}
	_, ok := errors.AsType[*MisplacedError](err)
	return ok
}

// wasRefused tells whether the disk refused and nothing else is wrong: it is
// full, or there is no descriptor. A *commitlog.FailedError may have such a
// refusal as its cause, and is final all the same.
func wasRefused(err error) bool {
	if _, failed := errors.AsType[*commitlog.FailedError](err); failed {
		return false
	}
	_, refused := errors.AsType[*commitlog.WriteError](err)
	return refused
}
