package api

import (
	"errors"
	"time"

	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/backup"
)

// maxBackups bounds the backups that are made at once: each reads everything.
const maxBackups = 4

var errTooManyBackups = errors.New("too many backups are being made")

// BackupMetadata is part of ControllerService. Any controller makes a backup:
// what it reads is confirmed by a quorum.
func (s *Service) BackupMetadata(_ *controllerv1.BackupMetadataRequest, stream grpc.ServerStreamingServer[controllerv1.BackupMetadataResponse]) error {
	if s.backups.Add(1) > maxBackups {
		s.backups.Add(-1)
		return errTooManyBackups
	}
	defer s.backups.Add(-1)
	return backup.Write(stream.Context(), s.o.KV, time.Now(), s.o.Version, func(piece []byte) error {
		return stream.Send(&controllerv1.BackupMetadataResponse{Data: piece})
	})
}
