package api

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/topicconfig"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

const (
	storageReason = pb.ErrorReason_ERROR_REASON_STORAGE_FAILED
	corruptReason = pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT
	fieldReason   = pb.ErrorReason_ERROR_REASON_INVALID_FIELD
	unknownReason = pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION
)

// samples has an error of every exported type, and every exported sentinel, of
// the packages below this one, and what clients are told.
func samples() map[string]struct {
	err    error
	reason pb.ErrorReason
} {
	return map[string]struct {
		err    error
		reason pb.ErrorReason
	}{
		"record.ErrShort":                {record.ErrShort, corruptReason},
		"record.ErrUndecodable":          {record.ErrUndecodable, corruptReason},
		"record.InvalidBatchError":       {&record.InvalidBatchError{Kind: record.WrongCount}, pb.ErrorReason_ERROR_REASON_INVALID_BATCH},
		"record.CorruptBatchError":       {&record.CorruptBatchError{}, corruptReason},
		"record.CorruptInfoError":        {&record.CorruptInfoError{}, corruptReason},
		"record.UnsupportedVersionError": {&record.UnsupportedVersionError{}, storageReason},
		"segment.ErrSealed":              {segment.ErrSealed, storageReason},
		"segment.ErrTruncated":           {segment.ErrTruncated, corruptReason},
		"segment.ErrShortened":           {segment.ErrShortened, corruptReason},
		"segment.ErrNoPlace":             {segment.ErrNoPlace, corruptReason},
		"segment.ErrOffsetOrder":         {segment.ErrOffsetOrder, corruptReason},
		"segment.ErrEpochOrder":          {segment.ErrEpochOrder, corruptReason},
		"segment.ErrIndex":               {segment.ErrIndex, corruptReason},
		"segment.ErrMissing":             {segment.ErrMissing, corruptReason},
		"segment.CorruptError":           {&segment.CorruptError{Cause: segment.ErrMissing}, corruptReason},
		"segment.MismatchError":          {&segment.MismatchError{}, corruptReason},
		"segment.RollbackError":          {&segment.RollbackError{Write: syscall.EIO, Rollback: syscall.EIO}, storageReason},
		"segment.SyncError":              {&segment.SyncError{Err: syscall.EIO}, storageReason},
		"commitlog.ErrClosed":            {commitlog.ErrClosed, storageReason},
		"commitlog.OffsetOutOfRangeError": {&commitlog.OffsetOutOfRangeError{Requested: 9, End: 3},
			pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE},
		"commitlog.EpochError":             {&commitlog.EpochError{}, storageReason},
		"commitlog.BatchError":             {&commitlog.BatchError{}, storageReason},
		"commitlog.RangeError":             {&commitlog.RangeError{Cause: record.ErrShort}, corruptReason},
		"partition.UnequalPushError":       {&partition.UnequalPushError{}, storageReason},
		"commitlog.WriteError":             {&commitlog.WriteError{Kind: commitlog.DiskFull, Err: syscall.EIO}, pb.ErrorReason_ERROR_REASON_DISK_FULL},
		"commitlog.FailedError":            {&commitlog.FailedError{Cause: syscall.EIO}, storageReason},
		"checkpoint.ErrNotExist":           {checkpoint.ErrNotExist, storageReason},
		"checkpoint.CorruptError":          {&checkpoint.CorruptError{}, corruptReason},
		"checkpoint.TooLargeError":         {&checkpoint.TooLargeError{}, storageReason},
		"mmap.ErrReleased":                 {mmap.ErrReleased, storageReason},
		"mmap.ErrOutside":                  {mmap.ErrOutside, storageReason},
		"mmap.FaultError":                  {&mmap.FaultError{}, storageReason},
		"vfs.LockedError":                  {&vfs.LockedError{}, storageReason},
		"partition.ErrClosed":              {partition.ErrClosed, pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE},
		"partition.ErrUnknownOutcome":      {partition.ErrUnknownOutcome, pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME},
		"partition.ErrPrecedingFailed":     {partition.ErrPrecedingFailed, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED},
		"partition.NotLeaderError":         {&partition.NotLeaderError{Leader: 2}, pb.ErrorReason_ERROR_REASON_NOT_LEADER},
		"partition.FailedError":            {&partition.FailedError{Cause: syscall.EIO}, storageReason},
		"partition.QuarantinedError":       {&partition.QuarantinedError{Cause: syscall.EIO}, corruptReason},
		"partition.TimestampError":         {&partition.TimestampError{}, pb.ErrorReason_ERROR_REASON_TIMESTAMP_TOO_FAR_AHEAD},
		"partition.NotEnoughReplicasError": {&partition.NotEnoughReplicasError{}, pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_REPLICAS},
		"partition.DivergedError":          {&partition.DivergedError{}, pb.ErrorReason_ERROR_REASON_DIVERGED},
		"partition.NotFreshError":          {&partition.NotFreshError{}, pb.ErrorReason_ERROR_REASON_NOT_FRESH},
		"partition.CutError":               {&partition.CutError{}, pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE},
		"partition.EndUnknownError":        {&partition.EndUnknownError{}, pb.ErrorReason_ERROR_REASON_OFFSET_NOT_AVAILABLE},
		"broker.UnknownTopicError":         {&broker.UnknownTopicError{}, unknownReason},
		"broker.UnknownPartitionError":     {&broker.UnknownPartitionError{}, unknownReason},
		"broker.NotLeaderError":            {&broker.NotLeaderError{Leader: -1}, pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE},
		"broker.MisplacedError":            {&broker.MisplacedError{}, storageReason},
		"broker.WrongBrokerError":          {&broker.WrongBrokerError{}, storageReason},
		"broker.WrongClusterError":         {&broker.WrongClusterError{}, storageReason},
		"broker.BudgetError":               {&broker.BudgetError{}, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED},
		"metadata.ErrSilent":               {metadata.ErrSilent, pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE},
		"topicconfig.NameError":            {&topicconfig.NameError{}, fieldReason},
		"topicconfig.UnknownError":         {&topicconfig.UnknownError{}, pb.ErrorReason_ERROR_REASON_UNKNOWN_CONFIG},
		"topicconfig.InvalidError":         {&topicconfig.InvalidError{}, pb.ErrorReason_ERROR_REASON_INVALID_CONFIG},
		"wire.MalformedError":              {&wire.MalformedError{}, pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"wire.UnsupportedFieldError":       {&wire.UnsupportedFieldError{}, pb.ErrorReason_ERROR_REASON_UNSUPPORTED_FIELD},
		"wire.InvalidValueError":           {&wire.InvalidValueError{}, fieldReason},
	}
}

func TestEveryErrorFromBelowIsMapped(t *testing.T) {
	known := samples()
	for _, dir := range []string{
		"../../storage", "../partition", "../broker", "../metadata", "../topicconfig", "../wire", "../replica",
	} {
		for _, name := range exportedErrors(t, dir) {
			if _, ok := known[name]; !ok {
				t.Errorf("%s has no sample here: map it in errors.go", name)
			}
		}
	}
	for name, s := range known {
		for _, err := range []error{s.err, fmt.Errorf("wrapped: %w", s.err)} {
			f := FaultOf(err)
			if f == nil || f.Reason != s.reason {
				t.Errorf("%s is told as %+v, want %v", name, f, s.reason)
				continue
			}
			if f.Message == "" || f.Code == codes.OK || f.Code == codes.Internal {
				t.Errorf("%s is told as %+v", name, f)
			}
		}
	}
}

// What has failed for good is not cured by room on the disk, so a client is not
// told to wait for that, though want of room was the cause.
func TestWhatHasFailedForWantOfRoomIsNoFullDisk(t *testing.T) {
	full := &commitlog.WriteError{Kind: commitlog.DiskFull, Err: syscall.ENOSPC}
	for name, err := range map[string]error{
		"a log":                      &commitlog.FailedError{Cause: full},
		"a partition":                &partition.FailedError{Cause: &commitlog.FailedError{Cause: full}},
		"a sync":                     &segment.SyncError{Err: syscall.ENOSPC},
		"what cannot be taken away":  &segment.RollbackError{Write: syscall.ENOSPC, Rollback: syscall.EIO},
		"an open that met that, too": fmt.Errorf("open: %w", &commitlog.FailedError{Cause: &segment.SyncError{Err: syscall.EDQUOT}}),
	} {
		if f := FaultOf(err); f.Reason != storageReason || f.Retryable {
			t.Errorf("%s is told as %+v", name, f)
		}
	}
	if f := FaultOf(full); f.Reason != pb.ErrorReason_ERROR_REASON_DISK_FULL || !f.Retryable {
		t.Errorf("a write that was refused is told as %+v", f)
	}
}

// exportedErrors returns the exported error types and sentinels of the
// packages at and below a directory.
func exportedErrors(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "memfs" || d.Name() == "faultfs" || d.Name() == "storagetest") {
			return filepath.SkipDir // test support
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			for _, name := range errorsOf(decl) {
				names = append(names, file.Name.Name+"."+name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func errorsOf(decl ast.Decl) []string {
	var names []string
	switch d := decl.(type) {
	case *ast.FuncDecl: // a type is an error by its method
		if d.Name.Name != "Error" || d.Recv == nil || len(d.Type.Params.List) != 0 {
			return nil
		}
		receiver := d.Recv.List[0].Type
		if star, ok := receiver.(*ast.StarExpr); ok {
			receiver = star.X
		}
		if id, ok := receiver.(*ast.Ident); ok && id.IsExported() {
			names = append(names, id.Name)
		}
	case *ast.GenDecl: // a sentinel by its name
		if d.Tok != token.VAR {
			return nil
		}
		for _, spec := range d.Specs {
			for _, id := range spec.(*ast.ValueSpec).Names {
				if strings.HasPrefix(id.Name, "Err") {
					names = append(names, id.Name)
				}
			}
		}
	}
	return names
}

func TestErrorsAreFoundInTheSources(t *testing.T) {
	found := strings.Join(exportedErrors(t, "../partition"), " ")
	for _, want := range []string{"partition.ErrClosed", "partition.NotLeaderError"} {
		if !strings.Contains(found, want) {
			t.Errorf("%s is not among %s", want, found)
		}
	}
}

func TestPathsAreNotToldToClients(t *testing.T) {
	_, err := os.Open("/no/such/secret")
	f := FaultOf(fmt.Errorf("open: %w", err))
	if f == nil || strings.Contains(f.Message, "secret") {
		t.Errorf("got %+v", f)
	}
	full := FaultOf(&fs.PathError{Op: "write", Path: "/secret", Err: syscall.ENOSPC})
	if full.Reason != pb.ErrorReason_ERROR_REASON_DISK_FULL || !full.Retryable || strings.Contains(full.Message, "secret") {
		t.Errorf("got %+v", full)
	}
	readOnly := FaultOf(&commitlog.WriteError{Kind: commitlog.ReadOnly, Err: syscall.EROFS})
	if readOnly.Reason != storageReason || !strings.Contains(readOnly.Message, "read-only") {
		t.Errorf("got %+v", readOnly)
	}
}

// What has an unknown outcome is never told as its cause: a client that hears
// that another leads would send it again.
func TestAnUnknownOutcomeIsToldWhateverItsCause(t *testing.T) {
	for name, cause := range samples() {
		err := fmt.Errorf("%w: %w", partition.ErrUnknownOutcome, cause.err)
		if f := FaultOf(err); f == nil || f.Reason != pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME || f.Retryable {
			t.Errorf("because of %s: told as %+v", name, f)
		}
	}
}

func TestBatchErrorsNameFieldOrLimit(t *testing.T) {
	for kind := record.Malformed; kind <= record.BadCompression; kind++ {
		f := FaultOf(&record.InvalidBatchError{Kind: kind, Field: "batch.x", Limit: 1, Actual: 2})
		if f.Code != codes.InvalidArgument || (f.Field == nil) == (f.Limit == nil) || f.Retryable {
			t.Errorf("%v: %+v", kind, f)
		}
	}
}

func TestControllersAnswersPass(t *testing.T) {
	said := &rpc.Fault{
		Code: codes.AlreadyExists, Reason: pb.ErrorReason_ERROR_REASON_TOPIC_EXISTS, Message: "topic exists",
		Resource: &pb.ResourceReference{Type: "topic", Name: "t"},
	}
	if f := FaultOf(said.GRPCStatus().Err()); f.Reason != said.Reason || f.Code != said.Code || f.Resource.GetName() != "t" {
		t.Errorf("got %+v", f)
	}
	if f := FaultOf(status.Error(codes.Unavailable, "connection refused")); f.Reason != pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE || !f.Retryable {
		t.Errorf("got %+v", f)
	}
	for _, err := range []error{errors.New("of nowhere"), status.Error(codes.Canceled, "gone")} {
		if f := FaultOf(err); f != nil {
			t.Errorf("%v is told as %+v", err, f)
		}
	}
}
