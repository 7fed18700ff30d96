package api

import (
	"errors"
	"time"
)

// Limits bound what clients can make the broker hold. Zero values stand for
// the defaults, which DefaultLimits returns.
type Limits struct {
	// StreamInFlightBytes of requests that partitions have of a Produce stream;
	// the stream's next request waits beyond it. The broker has a budget for all
	// streams together.
	StreamInFlightBytes int64
	// ReadingBytes that Fetch and Read hold of all streams: frames until the
	// transport has written them, and batches that are being decompressed.
	ReadingBytes int64
	// UnreadAnswers of a stream, and requests that are not answered yet: the
	// server takes no more requests beyond it.
	UnreadAnswers int
	// ForwardedCalls that may be open to another broker: streams of clients that
	// it leads partitions of, and calls on their way. Replication has the rest of
	// what a broker takes of another (server/config).
	ForwardedCalls int
	// StreamPartitions that a Produce stream has failed requests of, or
	// requests in flight for.
	StreamPartitions int
	// Subscriptions of a Fetch stream.
	Subscriptions int
	// FrameBytes of records in a frame of Fetch, unless a subscription asks for
	// less; a single batch may be larger.
	FrameBytes int
	// StallTimeout is how long a client may leave an answer unread before its
	// stream ends (stream.stall.timeout).
	StallTimeout time.Duration
	// DrainGrace is how long Produce streams go on after Drain.
	DrainGrace time.Duration
	// RevisionWait is how long a request may wait for the metadata revision
	// that it names.
	RevisionWait time.Duration
	// AppendRecords of one Append.
	AppendRecords int
	// AppendBytes of the records of one Append.
	AppendBytes int
}

// DefaultLimits returns the limits in force where none are set.
func DefaultLimits() Limits {
	return Limits{
		// Enough for 64 batches of 256 KiB, and for the largest request.
		StreamInFlightBytes: 16 << 20,
		// 500 frames of the usual size.
		ReadingBytes:     256 << 20,
		UnreadAnswers:    1_000,
		ForwardedCalls:   900,
		StreamPartitions: 20_000,
		Subscriptions:    10_000,
		// Larger frames leave the caches of the processor between the copy and
		// the socket; smaller ones cost more calls.
		FrameBytes:    512 << 10,
		StallTimeout:  30 * time.Second,
		DrainGrace:    time.Second,
		RevisionWait:  5 * time.Second,
		AppendRecords: 10_000,
		AppendBytes:   3 << 20,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	setDefault(&l.StreamInFlightBytes, d.StreamInFlightBytes)
	setDefault(&l.ReadingBytes, d.ReadingBytes)
	setDefault(&l.UnreadAnswers, d.UnreadAnswers)
	setDefault(&l.ForwardedCalls, d.ForwardedCalls)
	setDefault(&l.StreamPartitions, d.StreamPartitions)
	setDefault(&l.Subscriptions, d.Subscriptions)
	setDefault(&l.FrameBytes, d.FrameBytes)
	setDefault(&l.StallTimeout, d.StallTimeout)
	setDefault(&l.DrainGrace, d.DrainGrace)
	setDefault(&l.RevisionWait, d.RevisionWait)
	setDefault(&l.AppendRecords, d.AppendRecords)
	setDefault(&l.AppendBytes, d.AppendBytes)
	return l
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (l Limits) validate() error {
	switch {
	case l.StreamInFlightBytes < maxRequestBytes, l.UnreadAnswers < 0, l.ForwardedCalls < 0, l.StreamPartitions < 0,
		l.Subscriptions < 0, l.StallTimeout < 0, l.DrainGrace < 0, l.RevisionWait < 0, l.AppendRecords < 0, l.AppendBytes < 0:
		return errors.New("api: limits may not be negative, and a request must fit into StreamInFlightBytes")
	case l.ReadingBytes < leastReadBytes:
		return errors.New("api: ReadingBytes must be at least 32 MiB, for the largest batch and what it decompresses to")
	case l.FrameBytes < minFrameBytes || l.FrameBytes > defaultFrameBytes:
		return errors.New("api: FrameBytes must be 4 KiB to 1 MiB")
	}
	return nil
}
