package crash

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/millstream-io/millstream/cmd/internal/check"
	"github.com/millstream-io/millstream/cmd/internal/history"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// chronicle writes the history of a run, an event a batch: what the load asked
// for and was answered, what was read, when the server was killed, and what is
// in its log at the end.
//
// The first error of a file comes back from end; a history that is not whole
// is not checked.
type chronicle struct {
	dir            string
	client, driver *history.Writer

	mu   sync.Mutex        // guards open and err
	open map[uint64]uint32 // partitions of the appends without answer, by op
	err  error             // the first of a writer
}

func newChronicle(dir string) (*chronicle, error) {
	held, err := history.Holds(dir)
	if err != nil {
		return nil, err
	}
	if held {
		return nil, fmt.Errorf("%s holds a history already", dir)
	}
	c := &chronicle{dir: dir, open: map[uint64]uint32{}}
	if c.client, err = history.Create(history.Options{Dir: dir, Name: "client", Role: history.RoleClient}); err != nil {
		return nil, err
	}
	if c.driver, err = history.Create(history.Options{Dir: dir, Name: "driver", Role: history.RoleDriver}); err != nil {
		return nil, errors.Join(err, c.client.Close())
	}
	return c, nil
}

// write notes an event of the topic.
func (c *chronicle) write(w *history.Writer, e history.Event) {
	e.Topic = topic
	if err := w.Record(&e); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			c.err = err
		}
	}
}

// invoke notes a request before it is sent.
func (c *chronicle) invoke(session uint64, r *pb.ProduceRequest) {
	c.mu.Lock()
	c.open[r.GetCorrelationId()] = r.GetPartition()
	c.mu.Unlock()
	c.write(c.client, history.Event{Kind: history.AppendInvoke, Partition: r.GetPartition(), Op: r.GetCorrelationId(), Append: &history.Append{
		Content: content(r.GetBatch()), Session: session, Acks: history.AcksAll,
	}})
}

// answered notes an answer.
func (c *chronicle) answered(a *pb.ProduceResponse) {
	c.mu.Lock()
	partition := c.open[a.GetCorrelationId()]
	delete(c.open, a.GetCorrelationId())
	c.mu.Unlock()
	e := history.Event{Kind: history.AppendOK, Partition: partition, Op: a.GetCorrelationId()}
	switch {
	case a.GetError().GetReason() == pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME:
		e.Kind, e.Reason = history.AppendUnknown, reason(a.GetError().GetReason())
	case a.GetError() != nil:
		e.Kind, e.Reason = history.AppendFail, reason(a.GetError().GetReason())
	default:
		e.Ack = &history.Ack{
			Scope: scope(a.GetAck().GetScope()), Medium: medium(a.GetAck().GetMedium()), InSync: a.GetAck().GetInSyncReplicas(),
			Base: a.GetBaseOffset(), Epoch: a.GetLeaderEpoch(),
		}
	}
	c.write(c.client, e)
}

// cut notes that what is open will get no answer.
func (c *chronicle) cut() {
	c.mu.Lock()
	open := c.open
	c.open = map[uint64]uint32{}
	c.mu.Unlock()
	for op, partition := range open {
		c.write(c.client, history.Event{Kind: history.AppendUnknown, Partition: partition, Op: op, Reason: "the server was killed"})
	}
}

// read notes what a reader does or gets.
func (c *chronicle) read(k history.Kind, partition uint32, r history.Read, batches []*pb.LogBatch) {
	e := history.Event{Kind: k, Partition: partition, Read: &r}
	for _, b := range batches {
		e.Batches = append(e.Batches, history.Batch{
			Base: b.GetBaseOffset(), Epoch: b.GetLeaderEpoch(), CRC: b.GetCrc32C(), Content: content(b.GetBatch()),
		})
	}
	c.write(c.client, e)
}

// killed notes that the server is about to be killed.
func (c *chronicle) killed() {
	c.write(c.driver, history.Event{Kind: history.FaultBegin, Fault: &history.Fault{Kind: history.FaultKill}})
}

// started notes that the server is there.
func (c *chronicle) started() { c.write(c.driver, history.Event{Kind: history.FaultEnd}) }

// dump notes what is in the log of a stopped server. With one replica all of it
// is committed.
func (c *chronicle) dump(dataDir string, topicID []byte) (err error) {
	w, err := history.Create(history.Options{Dir: c.dir, Name: "broker", Role: history.RoleBroker})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	logs, err := filepath.Glob(filepath.Join(dataDir, "topics", record.TopicID(topicID).String()+"-*"))
	if err != nil {
		return err
	}
	for _, dir := range logs {
		segments, err := filepath.Glob(filepath.Join(dir, "*"+segment.LogSuffix))
		if err != nil {
			return err
		}
		slices.Sort(segments)
		for i, path := range segments {
			e := history.Event{Kind: history.LogDump, Replica: &history.Replica{InSync: true, Last: i == len(segments)-1}}
			found, err := segment.Walk(vfs.OS(), path, func(s segment.Entry) error {
				sum, err := storedContent(s.Bytes)
				e.Batches = append(e.Batches, history.Batch{
					Base: int64(s.Header.BaseOffset), Epoch: int32(s.Header.LeaderEpoch), CRC: s.Header.CRC, Content: sum,
				})
				return err
			})
			if err != nil {
				return err
			}
			if found.Bad != nil {
				return found.Bad
			}
			e.Partition, e.Replica.HighWatermark = uint32(found.Info.Partition), int64(found.End.Offset)
			c.write(w, e)
		}
	}
	return nil
}

// close ends the files; again it does nothing.
func (c *chronicle) close() error { return errors.Join(c.client.Close(), c.driver.Close()) }

// end closes the files and checks them; what violates a rule is printed.
// REQUIRES: nothing is written any more.
func (c *chronicle) end(out io.Writer) error {
	if err := errors.Join(c.close(), c.err); err != nil {
		return fmt.Errorf("the history is not whole: %w", err)
	}
	r, err := history.Open(c.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	report, err := check.Run(r)
	if err != nil {
		return err
	}
	passed, failed := report.Counts()
	if failed > 0 {
		return errors.Join(fmt.Errorf("the history violates %d rules", failed), report.Write(out, r.Where))
	}
	_, err = fmt.Fprintf(out, "%d rules hold in the history of %d events\n", passed, report.Events)
	return err
}

// content is what is in a batch.
func content(b *pb.RecordBatch) history.Content {
	var sum history.Sum
	for _, r := range b.GetRecords() {
		sum.Add(history.DigestRecord(r.Key, r.Value))
	}
	return sum.Content()
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

func scope(s pb.AckScope) history.Scope {
	switch s {
	case pb.AckScope_ACK_SCOPE_ISR:
		return history.ScopeISR
	case pb.AckScope_ACK_SCOPE_LEADER:
		return history.ScopeLeader
	default:
		return history.ScopeNone
	}
}

func medium(m pb.AckMedium) history.Medium {
	switch m {
	case pb.AckMedium_ACK_MEDIUM_DISK:
		return history.MediumDisk
	case pb.AckMedium_ACK_MEDIUM_MEMORY:
		return history.MediumMemory
	default:
		return history.MediumNone
	}
}

// reason is the name of an error, as histories have it.
func reason(r pb.ErrorReason) string { return strings.TrimPrefix(r.String(), "ERROR_REASON_") }
