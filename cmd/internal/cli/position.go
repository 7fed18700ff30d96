package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// place is the kind of a position.
type place uint8

const (
	placeEarliest  place = iota // the first record kept
	placeLatest                 // the end: records to come
	placeOffset                 // position.n
	placeBeforeEnd              // position.n before the end
	placeTime                   // position.time
)

// position is a place in each of some partitions.
type position struct {
	place place
	n     int64
	time  time.Time
}

// positionSyntax says what parsePosition takes.
const positionSyntax = "must be earliest, latest, an OFFSET, -N (N before the end) or @TIME (RFC 3339, @2026-01-31T12:00:00Z)"

// parsePosition reads a position as users write it.
func parsePosition(s string) (position, error) {
	bad := fmt.Errorf("%q %s", s, positionSyntax)
	switch {
	case s == "earliest":
		return position{place: placeEarliest}, nil
	case s == "latest":
		return position{place: placeLatest}, nil
	case strings.HasPrefix(s, "@"):
		t, err := time.Parse(time.RFC3339Nano, s[1:])
		if err != nil {
			return position{}, bad
		}
		return position{place: placeTime, time: t}, nil
	}
	digits, before := strings.CutPrefix(s, "-")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return position{}, bad
	}
	if before {
		return position{place: placeBeforeEnd, n: int64(n)}, nil
	}
	return position{place: placeOffset, n: int64(n)}, nil
}

// partitionOffset is an offset of a partition.
type partitionOffset struct {
	partition uint32
	offset    int64
}

// offsets finds what a position is in the one partition, or in all of them.
func (p *Program) offsets(c *cobra.Command, topic string, only *uint32, at position) ([]partitionOffset, error) {
	req := &pb.ListOffsetsRequest{Topic: topic}
	if only != nil {
		req.Partitions = []uint32{*only}
	}
	switch at.place {
	case placeEarliest:
		req.At = &pb.ListOffsetsRequest_Earliest{Earliest: true}
	case placeTime:
		req.At = &pb.ListOffsetsRequest_Time{Time: timestamppb.New(at.time)}
	default:
		req.At = &pb.ListOffsetsRequest_Latest{Latest: true}
	}
	resp, err := call(p, c, topics, pb.TopicServiceClient.ListOffsets, req)
	if err != nil {
		return nil, err
	}
	var out []partitionOffset
	for _, o := range resp.GetOffsets() {
		if o.GetError() != nil {
			return nil, &answerError{o.GetError()}
		}
		offset := o.GetOffset()
		switch at.place {
		case placeOffset:
			offset = at.n
		case placeBeforeEnd:
			offset = max(0, offset-at.n)
		case placeEarliest, placeLatest, placeTime: // as found
		}
		out = append(out, partitionOffset{o.GetPartition(), offset})
	}
	return out, nil
}

// answerError is an error inside an answer.
type answerError struct{ e *pb.RequestError }

// Error says it for people.
func (e *answerError) Error() string { return e.e.GetMessage() }

// RequestError returns it in the API's form.
func (e *answerError) RequestError() *pb.RequestError { return e.e }
