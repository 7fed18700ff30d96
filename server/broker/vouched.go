package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// vouched knows when the controller was asked last that has answered with what
// this broker has carried out: at that time there was no leader but those that
// it knows of.
//
// WHY both ends: an answer that names a revision which was not carried out yet
// may be the one that ends a leadership here.
type vouched struct {
	at atomic.Int64 // ns; replica.Never before the first answer

	mu      sync.Mutex    // guards what follows; nothing else is done under it
	applied int64         // revision that was carried out last
	waits   int64         // revision of the last answer
	asked   time.Duration // when that was asked for
}

func newVouched() *vouched {
	v := &vouched{}
	v.at.Store(int64(replica.Never))
	return v
}

// answered notes an answer of the controller to what was asked at that time.
func (v *vouched) answered(asked time.Duration, revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waits, v.asked = revision, asked
	v.settle()
}

// carriedOut notes that all up to a revision was carried out. Another
// generation of the cluster begins with lower ones.
func (v *vouched) carriedOut(revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.applied = revision
	v.settle()
}

func (v *vouched) settle() {
	if v.waits > 0 && v.applied >= v.waits {
		v.at.Store(int64(v.asked))
	}
}

// time returns when it was asked.
func (v *vouched) time() time.Duration { return time.Duration(v.at.Load()) }
