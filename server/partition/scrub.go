package partition

import (
	"errors"
	"sync"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// scrubPiece is how much of a log is read at once.
const scrubPiece = 256 << 10

var scrubRooms = sync.Pool{New: func() any { return new([]byte) }}

// Scrub is one look at all that a log has on disk. It belongs to one goroutine,
// and holds nothing between two pieces.
type Scrub struct {
	p    *Partition
	r    *commitlog.Reader
	next record.Offset
	end  record.Offset
}

// NewScrub returns a look at what is on disk now.
func (p *Partition) NewScrub() *Scrub {
	return &Scrub{p: p, r: p.log.NewReader(), next: p.log.Start(), end: p.log.SyncedEnd()}
}

// Next reads the next piece. It returns how many bytes that were, and whether
// there is more. Damage quarantines the partition.
func (s *Scrub) Next() (n int, more bool) {
	if st := s.p.status.Load(); st.closed || st.failed != nil || st.damaged != nil {
		return 0, false
	}
	s.next = max(s.next, s.p.log.Start()) // retention goes on
	if s.next >= s.end {
		return 0, false
	}
	room, _ := scrubRooms.Get().(*[]byte)
	defer scrubRooms.Put(room)
	got, err := s.r.Read(s.next, s.end, scrubPiece, func(n int) []byte {
		if cap(*room) < n {
			*room = make([]byte, n)
		}
		return (*room)[:n]
	})
	if err != nil {
		// What is truncated or gone meanwhile is looked at another time.
		if errors.As(err, new(*segment.CorruptError)) {
			_ = s.p.examine(err)
		}
		return 0, false
	}
	s.next = got.Next
	return len(got.Bytes), s.next < s.end && got.Next > got.First
}
