// Package loggen makes large logs quickly, to measure what depends on their
// size: the time of a restart, the search for an offset or a time.
//
// It owns no format: it appends through commitlog, so what it makes is valid in
// every byte. It starts no goroutine, and closes what it opens.
package loggen

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Options say what to make.
type Options struct {
	FS  vfs.FS
	Dir string // of the partition
	// Bytes is how long the log is to become at least, in bytes; what is there
	// already counts.
	Bytes int64
	// ClusterID, TopicID and Partition are those of a log that is not there
	// yet. One that is there says itself what it is.
	ClusterID [16]byte
	TopicID   record.TopicID
	Partition record.PartitionID
	// SegmentBytes is the size of segments; 0: commitlog's default.
	SegmentBytes int64
	// RecordBytes is the size of values, BatchRecords how many are in a batch;
	// 0: 1,024 and 256.
	RecordBytes, BatchRecords int
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Generate appends records to the log in a directory, which nobody else has
// open, until it is long enough, and returns where it ends. All of it is
// durable then.
func Generate(o Options) (end record.Offset, err error) {
	if o.RecordBytes <= 0 {
		o.RecordBytes = 1024
	}
	if o.BatchRecords <= 0 {
		o.BatchRecords = 256
	}
	if err := o.identify(); err != nil {
		return 0, err
	}
	l, r, err := commitlog.Open(commitlog.Options{
		FS: o.FS, Dir: o.Dir, ClusterID: o.ClusterID, TopicID: o.TopicID, Partition: o.Partition,
		Config: commitlog.Config{SegmentBytes: o.SegmentBytes}, Now: o.Now,
	})
	if err != nil {
		return 0, err
	}
	if r.Damaged != nil {
		return 0, errors.Join(fmt.Errorf("log is damaged: %w", r.Damaged), l.Close())
	}
	b, err := o.batch()
	if err != nil {
		return 0, errors.Join(err, l.Close())
	}
	batches, epoch := []*commitlog.Batch{b}, max(0, l.LastEpoch())
	for l.Size() < o.Bytes {
		if err := l.Append(batches, epoch, l.End()); err != nil {
			return 0, errors.Join(err, l.Close())
		}
	}
	return l.End(), l.Close()
}

// identify takes the identity from the segments that are there.
func (o *Options) identify() error {
	entries, err := o.FS.ReadDir(o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		base, suffix, ok := segment.ParseName(e.Name())
		if !ok || suffix != segment.LogSuffix {
			continue
		}
		f, err := o.FS.OpenFile(filepath.Join(o.Dir, e.Name()), 0, 0)
		if err != nil {
			return err
		}
		info, err := segment.ReadInfo(f, e.Name(), base)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		o.ClusterID, o.TopicID, o.Partition = info.ClusterID, info.TopicID, info.Partition
		return nil
	}
	return nil
}

// batch returns the batch that is appended over and over.
func (o *Options) batch() (*commitlog.Batch, error) {
	value := make([]byte, o.RecordBytes)
	var b []byte
	for i := range o.BatchRecords {
		for k := range value {
			value[k] = byte('a' + (i+k)%26)
		}
		b = record.AppendRecord(b, &record.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: value})
	}
	pieces := record.Pieces{b}
	var v record.Validator
	summary, err := v.Validate(pieces, record.Limits{})
	if err != nil {
		return nil, err
	}
	return &commitlog.Batch{Pieces: pieces, Summary: summary}, nil
}
