package chronicle

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Topic is what is known of a topic whose logs are dumped.
type Topic struct {
	Name string
	ID   []byte
	// Committed is the high watermark of a partition, and whether the broker has
	// to have everything below it; nil: all that is there is committed, since
	// there is one replica.
	Committed func(broker int32, partition uint32) (highWatermark int64, inSync bool)
}

// Dump notes what is in the logs of a stopped broker.
func (c *Chronicle) Dump(broker int32, dataDir string, topics []Topic) (err error) {
	w, err := history.Create(history.Options{Dir: c.dir, Name: fmt.Sprintf("broker-%d", broker), Role: history.RoleBroker, Broker: broker})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for i := range topics {
		logs, err := filepath.Glob(filepath.Join(dataDir, "topics", record.TopicID(topics[i].ID).String()+"-*"))
		if err != nil {
			return err
		}
		for _, dir := range logs {
			if err := c.dumpLog(w, broker, dir, &topics[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// dumpLog notes what is in one log, an event a segment.
func (c *Chronicle) dumpLog(w *history.Writer, broker int32, dir string, t *Topic) error {
	segments, err := filepath.Glob(filepath.Join(dir, "*"+segment.LogSuffix))
	if err != nil {
		return err
	}
	slices.Sort(segments)
	for i, path := range segments {
		e := history.Event{Kind: history.LogDump, Topic: t.Name, Replica: &history.Replica{Last: i == len(segments)-1}}
		found, err := segment.Walk(vfs.OS(), path, func(s segment.Entry) error {
			sum, err := storedContent(s.Bytes)
			e.Batches = append(e.Batches, history.Batch{
				Base: int64(s.Header.BaseOffset), Epoch: int32(s.Header.LeaderEpoch), CRC: s.Header.CRC, Content: sum,
			})
			return err
		})
		if err == nil && found.Bad != nil {
			err = found.Bad
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		e.Partition, e.Replica.HighWatermark, e.Replica.InSync = uint32(found.Info.Partition), int64(found.End.Offset), true
		if t.Committed != nil {
			e.Replica.HighWatermark, e.Replica.InSync = t.Committed(broker, e.Partition)
		}
		c.write(w, &e)
	}
	return nil
}

// storedContent is what is in a batch as it is in a segment.
func storedContent(b []byte) (history.Content, error) {
	var sum history.Sum
	h, batch, _, err := record.ParseLogBatch(b)
	if err != nil {
		return sum.Content(), err
	}
	var it record.Iterator
	for it.ResetLogBatch(&h, batch); it.Next(); {
		sum.Add(history.DigestRecord(it.Record().Key, it.Record().Value))
	}
	return sum.Content(), it.Err()
}
