package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// usageError says that a command was used wrongly: exit code 2.
type usageError struct {
	command string
	message string
}

// Error says it for people.
func (e *usageError) Error() string {
	if e.command == "" {
		return e.message
	}
	return fmt.Sprintf("%s; see '%s --help'", e.message, e.command)
}

func misuse(c *cobra.Command, format string, args ...any) error {
	return &usageError{command: c.CommandPath(), message: fmt.Sprintf(format, args...)}
}

// hintError is an error with what to do about it.
type hintError struct {
	err  error
	hint string
}

// Error says both.
func (e *hintError) Error() string { return e.err.Error() + "; " + e.hint }

// Unwrap returns the error.
func (e *hintError) Unwrap() error { return e.err }

// errReported says that a command failed and has said why.
var errReported = errors.New("reported already")

// report prints an error as one line on standard error.
func (p *Program) report(err error) {
	if errors.Is(err, errReported) {
		return
	}
	label := "error:"
	if p.colour(p.Err) {
		label = "\x1b[31merror:\x1b[0m"
	}
	p.done("%s %s", label, oneLine(p.explain(err)))
}

// colour tells whether w is a terminal that may be coloured.
func (p *Program) colour(w io.Writer) bool {
	return isTerminal(w) && p.Getenv("NO_COLOR") == "" && p.Getenv("TERM") != "dumb"
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// oneLine joins lines; errors.Join parts errors by them.
func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }

// explain says what went wrong, why in the API's words, and what to do.
func (p *Program) explain(err error) string {
	if lost, ok := errors.AsType[*millstream.UnacknowledgedError](err); ok {
		return fmt.Sprintf("%s not acknowledged; the first: %s", counted(lost.Records, "record was", "records were"), p.explain(lost.First))
	}
	if unknown, ok := errors.AsType[*millstream.UnknownOutcomeError](err); ok {
		return unknown.Error() + "; " + advice(&pb.RequestError{Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME})
	}
	if gave, ok := errors.AsType[*millstream.GaveUpError](err); ok && gave.Reading {
		return "gave up reading: " + p.explain(gave.Cause)
	} else if ok {
		return "gave up, nothing of it was written: " + p.explain(gave.Cause)
	}
	if part, ok := errors.AsType[*trimError](err); ok {
		return part.describe(p.explain(part.cause))
	}
	if s := ofTheClient(err); s != "" {
		return s
	}
	if cause := p.dialed.failure(); cause != nil && unreachable(err) {
		if op, ok := errors.AsType[*net.OpError](cause); ok && op.Err != nil {
			cause = op.Err // without the address, which is said already
		}
		who := p.addr
		if !p.one() {
			who = fmt.Sprintf("any of %s: the last that was tried", strings.ReplaceAll(p.addr, ",", ", "))
		}
		return fmt.Sprintf("cannot reach %s: %v; start a server with 'millstream dev', or name one with --addr", who, cause)
	}
	if cause := p.dialed.refusal(); cause != nil && unreachable(err) {
		return fmt.Sprintf("no TLS with %s: %v", p.addr, cause)
	}
	if re := requestErrorOf(err); re != nil {
		return describe(re)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted) {
		return "interrupted"
	}
	st, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	switch st.Code() {
	case codes.Unavailable:
		if !p.speaksTLS() && p.dialed.connected() && p.serverSpeaksTLS() {
			return fmt.Sprintf("%s speaks TLS only: name the file of its authority with --tls-ca, or use --tls if this system trusts it", p.addr)
		}
		return fmt.Sprintf("%s (%s)", st.Message(), st.Code())
	case codes.Unimplemented:
		return fmt.Sprintf("%s does not have this call: %s; is it a Millstream server of this version?", p.addr, st.Message())
	case codes.DeadlineExceeded:
		return fmt.Sprintf("%s did not answer in time", p.addr)
	case codes.Canceled:
		return "interrupted"
	default:
		return fmt.Sprintf("%s (%s)", st.Message(), st.Code())
	}
}

// ofTheClient says what the Go client refuses, without the names that its
// options have in Go; empty: it is another error.
func ofTheClient(err error) string {
	const see = "; see which there are with: millstream topic describe TOPIC"
	if bad, ok := errors.AsType[*millstream.InvalidOptionError](err); ok {
		if bad.Option == "Partitions" {
			return bad.What + reasonIn(err) + see
		}
		return strings.ToLower(bad.Option) + " " + bad.What
	}
	if bad, ok := errors.AsType[*millstream.InvalidRecordError](err); ok && bad.Field == "partition" {
		return bad.What + reasonIn(err) + see
	}
	return ""
}

// reasonIn returns the reason that an error of the Go client has, as a server's
// is shown; empty: it has none.
func reasonIn(err error) string {
	said, ok := errors.AsType[*millstream.Error](err)
	if !ok {
		return ""
	}
	return " [" + rpc.ReasonName(said.Reason) + "]"
}

// unreachable tells whether err may come from a connection that never was.
func unreachable(err error) bool {
	return requestErrorOf(err) == nil && (status.Code(err) == codes.Unavailable || errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded)
}

// requestErrorCarrier is an error that has the API's own form in it.
type requestErrorCarrier interface{ RequestError() *pb.RequestError }

func requestErrorOf(err error) *pb.RequestError {
	var c requestErrorCarrier
	if errors.As(err, &c) {
		return c.RequestError()
	}
	if e, ok := errors.AsType[*millstream.Error](err); ok && e.Reason != pb.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return clientError(e)
	}
	return rpc.RequestErrorOf(err)
}

// clientError is what the Go client made its error of.
func clientError(e *millstream.Error) *pb.RequestError {
	re := &pb.RequestError{Code: uint32(e.Code), Reason: e.Reason, Message: e.Message, Retryable: e.Retryable}
	if e.Partition >= 0 && e.Topic != "" {
		re.Message = fmt.Sprintf("%s/%d: %s", e.Topic, e.Partition, e.Message)
	}
	switch {
	case e.Field != nil:
		re.Detail = &pb.RequestError_Field{Field: e.Field}
	case e.Limit != nil:
		re.Detail = &pb.RequestError_Limit{Limit: e.Limit}
	case e.OffsetRange != nil:
		re.Detail = &pb.RequestError_OffsetRange{OffsetRange: e.OffsetRange}
	case e.Resource != nil:
		re.Detail = &pb.RequestError_Resource{Resource: e.Resource}
	}
	return re
}

// describe says what the server said: message, facts that the message may
// lack, reason, advice.
func describe(e *pb.RequestError) string {
	s := e.GetMessage()
	if f := e.GetField(); f != nil && !strings.Contains(s, f.GetField()) && !strings.Contains(s, f.GetDescription()) {
		s += fmt.Sprintf(" (%s: %s)", f.GetField(), f.GetDescription())
	}
	s += " [" + rpc.ReasonName(e.GetReason()) + "]"
	if a := advice(e); a != "" {
		s += "; " + a
	}
	return s
}

// advice says what to do about an error, if that can be said.
func advice(e *pb.RequestError) string {
	topic := e.GetResource().GetName()
	isTopic := e.GetResource().GetType() == "topic" && topic != ""
	switch e.GetReason() { //nolint:exhaustive // for the rest there is nothing to advise
	case pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION:
		if isTopic {
			return fmt.Sprintf("create it with: millstream topic create %s", topic)
		}
		return "see which there are with: millstream topic list, millstream topic describe TOPIC"
	case pb.ErrorReason_ERROR_REASON_TOPIC_EXISTS:
		return "see what it is with: millstream topic describe " + topic
	case pb.ErrorReason_ERROR_REASON_UNKNOWN_CONFIG:
		return "see the settings with: millstream topic create --help"
	case pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE:
		if r := e.GetOffsetRange(); r != nil {
			return fmt.Sprintf("offsets from %d to %d can be read", r.GetStart(), r.GetEnd())
		}
	case pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE, pb.ErrorReason_ERROR_REASON_RECORD_TOO_LARGE:
		return "the topic's limits can be raised with: millstream topic alter TOPIC --config max.batch.bytes=…"
	case pb.ErrorReason_ERROR_REASON_DISK_FULL:
		return "free space with: millstream topic trim, millstream topic delete NAME --now; or lower retention.bytes or retention.ms"
	case pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME:
		return "it may or may not have been written: look before sending it again"
	case pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_BROKERS:
		return "start more brokers; a topic that is created may have fewer replicas (--replication-factor)"
	case pb.ErrorReason_ERROR_REASON_UNKNOWN_BROKER:
		return "see which there are with: millstream cluster describe"
	case pb.ErrorReason_ERROR_REASON_BROKER_IN_USE:
		return fmt.Sprintf("empty it with: millstream cluster drain %s --wait, and stop it", e.GetResource().GetName())
	case pb.ErrorReason_ERROR_REASON_BROKER_ALIVE:
		return "give this one an --id that no other has, or stop the other one"
	case pb.ErrorReason_ERROR_REASON_WRONG_CLUSTER:
		return "name the cluster's own controllers with --controllers, or an empty directory with --data-dir"
	case pb.ErrorReason_ERROR_REASON_BROKER_NOT_SERVING:
		return fmt.Sprintf("start it, or if it is drained: millstream cluster undrain %s", e.GetResource().GetName())
	case pb.ErrorReason_ERROR_REASON_REASSIGNMENT_IN_PROGRESS:
		return "wait until that is done, or end it with: millstream cluster move --cancel TOPIC/PARTITION"
	case pb.ErrorReason_ERROR_REASON_UNSAFE_REASSIGNMENT:
		return "wait until its replicas are in sync: millstream cluster status"
	case pb.ErrorReason_ERROR_REASON_REPLICAS_MAY_RETURN:
		return "start them, or if their logs will not come back, name them with --lost"
	case pb.ErrorReason_ERROR_REASON_NO_REPLICA_SERVES:
		return "start one of them first"
	case pb.ErrorReason_ERROR_REASON_UNKNOWN_CONTROLLER, pb.ErrorReason_ERROR_REASON_CONTROLLER_EXISTS, pb.ErrorReason_ERROR_REASON_QUORUM_AT_RISK:
		return "see how they are with: millstream cluster controllers list"
	case pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE:
		return "nothing was changed; try again, and if that does not help start controllers: more than half of them are needed"
	case pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE:
		return "nothing was changed; try again, and if that does not help see whom it waits for with: millstream cluster status"
	case pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT:
		return "check the data directory with: millstream log verify DIR"
	}
	if e.GetRetryable() {
		return "nothing was changed; try again"
	}
	return ""
}
