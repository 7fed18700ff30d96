package api

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// readFault maps why records cannot be read.
func readFault(err error) *rpc.Fault {
	if e, ok := errors.AsType[*commitlog.OffsetOutOfRangeError](err); ok {
		f := fault(codes.OutOfRange, pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE, e.Error())
		f.OffsetRange = &pb.OffsetRange{Start: int64(e.Start), End: int64(e.End)}
		return f
	}
	if e, ok := errors.AsType[*segment.CorruptError](err); ok {
		return corrupt(fmt.Sprintf("the log is damaged at offset %d", e.Offset))
	}
	for _, damage := range [...]struct {
		is  func(error) bool
		say string
	}{
		{isType[*segment.MismatchError], "a segment of the partition belongs elsewhere"},
		{isType[*record.CorruptBatchError], "a stored batch is damaged"},
		{isType[*record.CorruptInfoError], "a segment is damaged at its beginning"},
		{isType[*checkpoint.CorruptError], "a file beside the log is damaged"},
		{isError(record.ErrShort, record.ErrUndecodable), "a stored batch cannot be decoded"},
		{isError(segment.ErrTruncated, segment.ErrShortened, segment.ErrNoPlace), "a segment is shorter than it should be"},
		{isError(segment.ErrOffsetOrder, segment.ErrEpochOrder), "stored batches are out of order"},
		{isError(segment.ErrIndex, segment.ErrMissing), "stored records are missing"},
	} {
		if damage.is(err) {
			return corrupt(damage.say)
		}
	}
	if e, ok := errors.AsType[*record.UnsupportedVersionError](err); ok {
		return storageFailed(e.Error())
	}
	return nil
}

// storageFault maps failures of files and directories. Clients learn that the
// storage failed; where and how is in the broker's log, for paths are nothing
// to clients.
func storageFault(err error) *rpc.Fault {
	// First what is final, whatever was the cause: a log that has failed for want
	// of room takes nothing when there is room again, and who was told to wait for
	// that would wait for ever.
	for _, final := range [...]func(error) bool{
		isType[*commitlog.FailedError], isType[*segment.SyncError], isType[*segment.RollbackError],
	} {
		if final(err) {
			return storageFailed(reasonOf(err))
		}
	}
	if vfs.IsFull(err) {
		return diskFull()
	}
	if e, ok := errors.AsType[*commitlog.WriteError](err); ok {
		if e.Kind == commitlog.DiskFull {
			return diskFull()
		}
		return storageFailed(e.Kind.String())
	}
	for _, is := range [...]func(error) bool{
		isType[*commitlog.EpochError], isType[*commitlog.BatchError], isType[*commitlog.RangeError], isType[*partition.UnequalPushError], isType[*checkpoint.TooLargeError],
		isType[*mmap.FaultError], isType[*vfs.LockedError], isType[*fs.PathError],
		isType[*broker.MisplacedError], isType[*broker.WrongBrokerError], isType[*broker.WrongClusterError],
		isError(commitlog.ErrClosed, segment.ErrSealed, checkpoint.ErrNotExist, mmap.ErrReleased, mmap.ErrOutside),
	} {
		if is(err) {
			return storageFailed(reasonOf(err))
		}
	}
	return nil
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func isError(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
}

// corrupt says that stored bytes are damaged. Where is in the broker's log.
func corrupt(message string) *rpc.Fault {
	return fault(codes.DataLoss, pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT, message)
}

func diskFull() *rpc.Fault {
	f := fault(codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_DISK_FULL, "the disk of the broker is full")
	f.Retryable, f.RetryAfter = true, time.Second
	return f
}

func storageFailed(why string) *rpc.Fault {
	return fault(codes.Unavailable, pb.ErrorReason_ERROR_REASON_STORAGE_FAILED, "the storage of the partition failed: "+why)
}

// reasonOf names the kind of an error of the file system, without paths.
func reasonOf(err error) string {
	switch {
	case vfs.IsFull(err):
		return "the disk is full"
	case vfs.IsReadOnly(err):
		return "the disk is read-only"
	case vfs.IsTooManyFiles(err):
		return "too many open files"
	default:
		return "the log of the broker says how"
	}
}

// controllerFault maps the answers of the controller. What it says with a
// reason passes as it is.
func controllerFault(err error) *rpc.Fault {
	if errors.Is(err, metadata.ErrSilent) {
		return controllerUnavailable()
	}
	st, ok := status.FromError(err)
	if !ok || st.Code() == codes.OK {
		return nil
	}
	if f := rpc.FaultFromStatus(err); f != nil {
		return f
	}
	if st.Code() == codes.Unavailable {
		return controllerUnavailable()
	}
	return nil
}

func controllerUnavailable() *rpc.Fault {
	return retryLater(pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, "no controller is active or reachable")
}
