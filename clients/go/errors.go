package millstream

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// ErrClosed says that the client, producer or reader is closed.
var ErrClosed = errors.New("millstream: closed")

// Reason says for programs why a request failed.
type Reason = pb.ErrorReason

// Error is what a server said about one request. Find it with errors.As (or
// errors.AsType); act on Reason and the facts, never on Message.
type Error struct {
	// Op is what was being done: "produce", "fetch" or a method of the API.
	Op string
	// Topic is empty when the request names none.
	Topic string
	// Partition is -1 when the request names none.
	Partition int32
	Code      codes.Code
	Reason    Reason
	Message   string
	// Retryable is true when the same request may succeed later and the
	// failed attempt surely wrote nothing.
	Retryable bool
	// RetryAfter is when to try again at the earliest, as the server says; 0: it
	// does not.
	RetryAfter time.Duration

	// Facts to act on; at most one is set.
	Field       *pb.FieldViolation
	Limit       *pb.LimitViolation
	OffsetRange *pb.OffsetRange
	Leader      *pb.LeaderHint
	Divergence  *pb.Divergence
	Resource    *pb.ResourceReference

	cause error
}

// Error says what was being done, and what the server said.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Topic != "" {
		fmt.Fprintf(&b, " %s", e.Topic)
		if e.Partition >= 0 {
			fmt.Fprintf(&b, "/%d", e.Partition)
		}
	}
	name := e.Code.String()
	if e.Reason != pb.ErrorReason_ERROR_REASON_UNSPECIFIED {
		name = strings.TrimPrefix(e.Reason.String(), "ERROR_REASON_")
	}
	fmt.Fprintf(&b, ": %s: %s", name, e.Message)
	return b.String()
}

// Unwrap returns the gRPC status that the error came as, if it came as one.
func (e *Error) Unwrap() error { return e.cause }

// newError makes an Error of what a server said inside a stream.
func newError(op, topic string, partition int32, r *pb.RequestError) *Error {
	return &Error{
		Op: op, Topic: topic, Partition: partition, Code: codes.Code(r.GetCode()), Reason: r.GetReason(),
		Message: r.GetMessage(), Retryable: r.GetRetryable(), RetryAfter: time.Duration(r.GetRetryAfterMs()) * time.Millisecond,
		Field: r.GetField(), Limit: r.GetLimit(), OffsetRange: r.GetOffsetRange(), Leader: r.GetLeader(), Divergence: r.GetDivergence(), Resource: r.GetResource(),
	}
}

// ErrorOf makes an [Error] of the error of a call on a generated stub: its
// RequestError where the status carries one, else code and message. An error
// that is no gRPC status, and nil, come back as they are.
func ErrorOf(op, topic string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	r := &pb.RequestError{Code: uint32(st.Code()), Message: st.Message(), Retryable: st.Code() == codes.Unavailable}
	for _, d := range st.Details() {
		if said, ok := d.(*pb.RequestError); ok {
			r = said
		}
	}
	e := newError(op, topic, -1, r)
	e.Code, e.cause = st.Code(), err
	return e
}

// isTransient reports whether a stream that ended with err is worth opening
// again: the server or the way to it is gone for now.
func isTransient(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return true
	}
	if e.Retryable {
		return true
	}
	switch e.Code {
	case codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.Unknown, codes.Internal, codes.Canceled, codes.OK:
		return true
	default:
		return false
	}
}

// UnknownOutcomeError says that records were sent and the answer never came,
// or that the server does not know: they may or may not have been written.
// Sending them again may write them twice.
type UnknownOutcomeError struct {
	Topic     string
	Partition uint32
	// Cause is what ended the stream, or what the server said.
	Cause error
}

// Error says which records and why.
func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("produce %s/%d: outcome unknown: %v", e.Topic, e.Partition, e.Cause)
}

// Unwrap returns the cause.
func (e *UnknownOutcomeError) Unwrap() error { return e.Cause }

// GaveUpError says that records were not written, or not read, and that the
// producer or the reader stopped trying after the time it was given.
type GaveUpError struct {
	Topic string
	// Reading says that a reader gave up: it was to write nothing.
	Reading bool
	// Partition is -1 when all of them are meant.
	Partition int32
	// Cause is how the last attempt failed.
	Cause error
}

// Error says what was given up and why.
func (e *GaveUpError) Error() string {
	if e.Partition < 0 {
		return fmt.Sprintf("%s: gave up: %v", e.Topic, e.Cause)
	}
	return fmt.Sprintf("%s/%d: gave up: %v", e.Topic, e.Partition, e.Cause)
}

// Unwrap returns the cause.
func (e *GaveUpError) Unwrap() error { return e.Cause }

// InvalidRecordError says that a record cannot be sent. Nothing of it was.
type InvalidRecordError struct {
	// Field is what is wrong: "size", "headers.key", "time" or "partition".
	Field string
	// What is wrong with it.
	What string
	// Limit and Actual are set when a limit is exceeded.
	Limit, Actual int64
}

// Error says what is wrong.
func (e *InvalidRecordError) Error() string { return "invalid record: " + e.Field + ": " + e.What }

// unknownPartitionError says that a topic has no such partition: as the argument
// that is wrong, and as a server says it.
type unknownPartitionError struct {
	argument error
	said     *Error
}

// Error says which argument is wrong.
func (e *unknownPartitionError) Error() string { return e.argument.Error() }

// Unwrap returns both.
func (e *unknownPartitionError) Unwrap() []error { return []error{e.argument, e.said} }

// unknownPartition adds to an error what a server would say, so that programs need
// not know who found out.
func unknownPartition(op, topic string, partition uint32, argument error) error {
	return &unknownPartitionError{argument, &Error{
		Op: op, Topic: topic, Partition: int32(min(partition, math.MaxInt32)), Code: codes.NotFound,
		Reason:   pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION,
		Message:  fmt.Sprintf("topic %s has no partition %d", topic, partition),
		Resource: &pb.ResourceReference{Type: "partition", Name: fmt.Sprintf("%s-%d", topic, partition)},
	}}
}

// UnacknowledgedError is what Flush and Close return when records were not
// acknowledged.
type UnacknowledgedError struct {
	// Records is how many.
	Records int64
	// First is how the first of them failed.
	First error
}

// Error says how many, and how the first failed.
func (e *UnacknowledgedError) Error() string {
	what := "records were"
	if e.Records == 1 {
		what = "record was"
	}
	return fmt.Sprintf("%d %s not acknowledged; the first: %v", e.Records, what, e.First)
}

// Unwrap returns how the first failed.
func (e *UnacknowledgedError) Unwrap() error { return e.First }

// DamagedError says that bytes received for a partition do not decode, or do
// not match their checksum. What came before them was delivered.
type DamagedError struct {
	Topic     string
	Partition uint32
	// Offset is where the damage was met.
	Offset int64
	Cause  error
}

// Error says where and what.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("fetch %s/%d at offset %d: %v", e.Topic, e.Partition, e.Offset, e.Cause)
}

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Cause }
