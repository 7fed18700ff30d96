package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// logDir is where a server keeps a partition.
func logDir(dir string, topic *pb.Topic, partition int) string {
	return filepath.Join(dir, "topics", fmt.Sprintf("%x-%d", topic.GetTopicId(), partition))
}

// generate appends to a partition, through the code of the log and without a
// server, until it has so many bytes in segments of segmentBytes.
//
// REQUIRES: the server has stopped.
func generate(ctx context.Context, dir string, topic *pb.Topic, partition int, size, segmentBytes int64) (err error) {
	text, err := checkpoint.Read(vfs.OS(), filepath.Join(dir, "incarnation"))
	if err != nil {
		return err
	}
	var owner broker.Incarnation
	if err := json.Unmarshal(text, &owner); err != nil {
		return err
	}
	l, _, err := commitlog.Open(commitlog.Options{
		FS: vfs.OS(), Dir: logDir(dir, topic, partition), ClusterID: owner.ClusterID, TopicID: record.TopicID(topic.GetTopicId()),
		Partition: record.PartitionID(partition), BootID: broker.BootID(), Config: commitlog.Config{SegmentBytes: segmentBytes},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var batch []byte
	for range 255 {
		batch = record.AppendRecord(batch, &record.Record{Value: make([]byte, recordBytes)})
	}
	var v record.Validator
	summary, err := v.Validate(record.Pieces{batch}, record.Limits{})
	if err != nil {
		return err
	}
	one := &commitlog.Batch{Pieces: record.Pieces{batch}, Summary: summary}
	for l.Size() < size {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := l.Append([]*commitlog.Batch{one}, max(l.LastEpoch(), 0), l.End()); err != nil {
			return err
		}
	}
	return nil
}
