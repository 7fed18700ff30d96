package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of FetchResponse.
const (
	frameBatches        = 1
	frameSubscriptionID = 2
	framePartition      = 4
	frameFirstOffset    = 5
	frameNextOffset     = 6
	frameHighWatermark  = 7
	frameLogStart       = 8
	frameCreditUsed     = 9
	frameError          = 10
	frameReroute        = 12
	frameCaughtUp       = 13
	frameDrain          = 11
	frameTopicID        = 15
	frameLeader         = 16

	hintAddress = 2
)

// Control says which control message a frame carries.
type Control uint8

// The control messages of a FetchResponse.
const (
	ControlNone Control = iota
	ControlError
	ControlDrain
	ControlReroute
	ControlCaughtUp
)

// Frame is a FetchResponse. It may be reused: Parse keeps its slice.
type Frame struct {
	SubscriptionID uint64
	Partition      uint32
	FirstOffset    int64
	NextOffset     int64
	HighWatermark  int64
	LogStart       int64
	CreditUsed     uint32
	// TopicID is BORROWED from the message; nil if it is not in this frame.
	TopicID []byte
	// Leader is the address of who leads a subscription that is forwarded,
	// BORROWED from the message; empty if it is not in this frame.
	Leader []byte
	// Control says what ControlBytes, the bytes of a message, are.
	Control      Control
	ControlBytes []byte
	// Batches are the stored batches in order, CRC checked.
	Batches []LogBatch
	// Damage is what is wrong with the batch after Batches, nil if nothing is:
	// a *CorruptBatchError or a *MalformedError. No batch after it is given.
	Damage error
}

// Parse reads a FetchResponse. The frame is BORROWED from b.
func (f *Frame) Parse(b []byte) error {
	*f = Frame{Batches: f.Batches[:0]}
	for len(b) > 0 {
		g, ok := next(b)
		if !ok {
			return &MalformedError{Message: "FetchResponse", What: "does not decode"}
		}
		b = b[g.size:]
		if g.kind == protowire.BytesType {
			f.parseMessage(&g)
			continue
		}
		if g.kind != protowire.VarintType {
			continue
		}
		switch g.number {
		case frameSubscriptionID:
			f.SubscriptionID = g.number64
		case framePartition:
			f.Partition = uint32(g.number64)
		case frameFirstOffset:
			f.FirstOffset = int64(g.number64)
		case frameNextOffset:
			f.NextOffset = int64(g.number64)
		case frameHighWatermark:
			f.HighWatermark = int64(g.number64)
		case frameLogStart:
			f.LogStart = int64(g.number64)
		case frameCreditUsed:
			f.CreditUsed = uint32(g.number64)
		}
	}
	return nil
}

func (f *Frame) parseMessage(g *field) {
	switch g.number {
	case frameBatches:
		if f.Damage != nil {
			return
		}
		n := len(f.Batches)
		f.Batches = append(f.Batches, LogBatch{})
		if f.Damage = f.Batches[n].Parse(g.bytes); f.Damage != nil {
			f.Batches = f.Batches[:n]
		}
	case frameTopicID:
		f.TopicID = g.bytes
	case frameLeader:
		f.Leader = addressOf(g.bytes)
	case frameError:
		f.Control, f.ControlBytes = ControlError, g.bytes
	case frameDrain:
		f.Control, f.ControlBytes = ControlDrain, g.bytes
	case frameReroute:
		f.Control, f.ControlBytes = ControlReroute, g.bytes
	case frameCaughtUp:
		f.Control, f.ControlBytes = ControlCaughtUp, g.bytes
	}
}

// addressOf returns the address of a LeaderHint; empty: it has none.
func addressOf(hint []byte) []byte {
	for len(hint) > 0 {
		f, ok := next(hint)
		if !ok {
			return nil
		}
		hint = hint[f.size:]
		if f.number == hintAddress && f.kind == protowire.BytesType {
			return f.bytes
		}
	}
	return nil
}

// Finished reads a CaughtUp: whether the subscription is finished.
func Finished(caughtUp []byte) bool {
	f, ok := next(caughtUp)
	return ok && f.number == 1 && f.number64 != 0
}
