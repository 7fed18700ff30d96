package partition

import (
	"context"

	"github.com/millstream-io/millstream/storage/record"
)

// A follower that is in sync may serve readers: what is below the high watermark
// that it knows (KIP-392).
//
// INVARIANT: what it serves is committed. What it does not have yet it does not
// judge: an offset beyond its end, or of a history that it does not know, is a
// question for the leader.
//
// It may be behind, by as much as the leader takes to tell it of a high
// watermark (rule P3). One whose stream to the leader has broken, or has been
// silent for long, serves nobody.

// NewReplicaReader returns a reader that goes on while this replica leads, or
// follows and is in sync. Otherwise it fails with *NotLeaderError.
func (p *Partition) NewReplicaReader() *Reader {
	return &Reader{p: p, r: p.log.NewReader(), replica: true, cuts: p.cuts.Load()}
}

// ServesReaders tells whether a reader of NewReplicaReader can read now: nil, or
// why not.
func (p *Partition) ServesReaders() error { return p.unservable() }

// PositionHere checks a position at a replica that may follow: off is the offset
// to go on at, epoch the leader epoch of the record before it, NoEpoch if that
// is not known. False: the leader is to be asked.
func (p *Partition) PositionHere(off record.Offset, epoch record.LeaderEpoch) bool {
	st := p.State()
	if off < st.LogStart || off > st.HighWatermark {
		return false
	}
	return epoch < 0 || p.CheckEpoch(off, epoch) == nil
}

// AwaitOffset waits until a replica that may follow can be read up to an offset,
// cannot be read at all, or ctx ends.
func (p *Partition) AwaitOffset(ctx context.Context, off record.Offset) {
	w := &bell{rung: make(chan struct{}, 1)}
	for p.notify(w, off-1, p.unservable) {
		select {
		case <-w.rung:
		case <-ctx.Done():
			p.Cancel(w)
			return
		}
		if p.unservable() != nil {
			return
		}
	}
}

// unservable returns why a follower, or leader, cannot be read.
func (p *Partition) unservable() error {
	s := p.status.Load()
	switch {
	case s.closed:
		return ErrClosed
	case s.failed != nil:
		return s.failed
	case s.leading:
		return nil
	case !s.follower || s.damaged != nil || !p.streaming.Load():
		return s.notLeader
	}
	return nil
}

func (r *Reader) unreadable() error {
	if r.replica {
		return r.p.unservable()
	}
	return r.p.status.Load().unreadable()
}

// serveAs notes whether the metadata has this follower in sync.
//
// REQUIRES: the caller owns the partition, which follows.
func (p *Partition) serveAs(inSync bool) {
	p.mail.mu.Lock()
	changed := p.change(func(s *status) bool {
		was := s.follower
		s.follower = inSync
		return was != inSync
	})
	p.mail.mu.Unlock()
	p.noteStream()
	if changed && !inSync {
		p.wakeAll()
	}
}

// noteStream publishes whether there is a session with the leader, and tells
// readers when there is none any more.
//
// REQUIRES: the caller owns the partition.
func (p *Partition) noteStream() {
	_, open := p.owner.follow.Session()
	if was := p.streaming.Swap(open); was && !open {
		p.wakeAll()
	}
}
