package millstream_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func TestAnErrorSaysWhenToTryAgain(t *testing.T) {
	st, err := status.New(codes.Unavailable, "full").WithDetails(&pb.RequestError{
		Code: uint32(codes.Unavailable), Reason: pb.ErrorReason_ERROR_REASON_DISK_FULL, Retryable: true, RetryAfterMs: 1500,
	})
	if err != nil {
		t.Fatal(err)
	}
	said, ok := errors.AsType[*millstream.Error](millstream.ErrorOf("append", "t", st.Err()))
	if !ok || !said.Retryable || said.RetryAfter != 1500*time.Millisecond {
		t.Errorf("got %+v", said)
	}
}
