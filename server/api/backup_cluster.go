package api

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

const (
	// backupTimeout bounds a backup: it is a matter of seconds.
	backupTimeout = 10 * time.Minute
	// backupAttempts is how many controllers are asked, while they answer nothing.
	backupAttempts = 5
)

// BackupCluster passes on the backup that a controller makes.
func (s *ClusterService) BackupCluster(_ *pb.BackupClusterRequest, stream grpc.ServerStreamingServer[pb.BackupClusterResponse]) error {
	limited, end := context.WithTimeout(stream.Context(), backupTimeout)
	defer end()
	ctx, cancel := context.WithCancelCause(limited)
	defer cancel(errFinished)
	stalled := time.AfterFunc(s.stall, func() { cancel(readerTooSlow(s.stall)) })
	stalled.Stop()
	done := make(chan error, 1) // sent once
	s.streams.Go(func() {
		done <- s.backup(ctx, func(piece []byte) error {
			stalled.Reset(s.stall)
			defer stalled.Stop()
			return stream.Send(&pb.BackupClusterResponse{Data: piece})
		})
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// backup receives a backup. Another controller is asked when one has answered
// nothing: those who are asked take turns.
func (s *ClusterService) backup(ctx context.Context, pass func([]byte) error) error {
	var err error
	for range backupAttempts {
		var begun bool
		if begun, err = s.backupOnce(ctx, pass); begun || err == nil || ctx.Err() != nil || !otherMay(err) {
			break
		}
	}
	return err
}

// otherMay tells whether another controller may have what one has not.
func otherMay(err error) bool {
	f := rpc.FaultFromStatus(err)
	return f == nil || f.Reason == pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE || f.Reason == pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN
}

func (s *ClusterService) backupOnce(ctx context.Context, pass func([]byte) error) (begun bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream whatever happens here
	from, err := s.controller.BackupMetadata(ctx, new(controllerv1.BackupMetadataRequest))
	if err != nil {
		return false, err
	}
	for {
		m, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return begun, nil
		}
		if err != nil {
			return begun, err
		}
		begun = true
		if err := pass(m.GetData()); err != nil {
			return true, err
		}
	}
}
