package forward

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/millstream-io/millstream/storage/record"
)

// Began says where a Read begins and ends, as the leader that took it has found:
// who passes it on can go on at another one, and end at the same place, though
// nothing has come yet.
type Began struct {
	// Start is the first offset that is read.
	Start record.Offset
	// Epoch is the leader epoch of the record before it; -1: there is none.
	Epoch record.LeaderEpoch
	// End is where it ends; -1: it follows.
	End record.Offset
}

// Say sends it to whoever forwarded the call, ahead of the first record. It does
// nothing for others.
func (b Began) Say(ctx context.Context) error {
	if !Forwarded(ctx) {
		return nil
	}
	return grpc.SendHeader(ctx, metadata.Pairs(beganHeader, fmt.Sprintf("%d:%d:%d", b.Start, b.Epoch, b.End)))
}

// Began waits until the leader has said where the Read begins; false if it has
// ended without, or does not say.
func (s *Stream) Began() (b Began, ok bool) {
	h, err := s.stream.Header()
	if err != nil {
		return Began{}, false // Recv says why
	}
	said := h.Get(beganHeader)
	if len(said) != 1 {
		return Began{}, false
	}
	n, err := fmt.Sscanf(said[0], "%d:%d:%d", &b.Start, &b.Epoch, &b.End)
	return b, err == nil && n == 3 && b.Start >= 0
}
