package chronicle

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/millstream-io/millstream/cmd/internal/check"
	"github.com/millstream-io/millstream/cmd/internal/history"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Chronicle writes the history of a run. Its methods may be called from any
// goroutine.
type Chronicle struct {
	dir            string
	client, driver *history.Writer

	mu   sync.Mutex          // guards open and err
	open map[uint64]unclosed // the appends without answer, by op
	err  error               // the first of a writer
}

// unclosed is an append without answer.
type unclosed struct {
	topic     string
	partition uint32
	session   uint64
}

// New begins a history in a directory that holds none.
func New(dir string) (*Chronicle, error) {
	held, err := history.Holds(dir)
	if err != nil {
		return nil, err
	}
	if held {
		return nil, fmt.Errorf("%s holds a history already", dir)
	}
	c := &Chronicle{dir: dir, open: map[uint64]unclosed{}}
	if c.client, err = history.Create(history.Options{Dir: dir, Name: "client", Role: history.RoleClient}); err != nil {
		return nil, err
	}
	if c.driver, err = history.Create(history.Options{Dir: dir, Name: "driver", Role: history.RoleDriver}); err != nil {
		return nil, errors.Join(err, c.client.Close())
	}
	return c, nil
}

// Dir is where the history is.
func (c *Chronicle) Dir() string { return c.dir }

func (c *Chronicle) write(w *history.Writer, e *history.Event) {
	if err := w.Record(e); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			c.err = err
		}
	}
}

// Invoke notes a request of a session, at acks all, before it is sent. Its
// correlation id is unique in the run.
func (c *Chronicle) Invoke(session uint64, r *pb.ProduceRequest) {
	c.mu.Lock()
	c.open[r.GetCorrelationId()] = unclosed{r.GetTopic(), r.GetPartition(), session}
	c.mu.Unlock()
	c.write(c.client, &history.Event{
		Kind: history.AppendInvoke, Topic: r.GetTopic(), Partition: r.GetPartition(), Op: r.GetCorrelationId(),
		Append: &history.Append{Content: Content(r.GetBatch()), Session: session, Acks: history.AcksAll},
	})
}

// Answered notes an answer, and returns the kind of the event: AppendOK,
// AppendFail or AppendUnknown.
func (c *Chronicle) Answered(a *pb.ProduceResponse) history.Kind {
	c.mu.Lock()
	of := c.open[a.GetCorrelationId()]
	delete(c.open, a.GetCorrelationId())
	c.mu.Unlock()
	e := history.Event{Kind: history.AppendOK, Topic: of.topic, Partition: of.partition, Op: a.GetCorrelationId()}
	switch {
	case a.GetError().GetReason() == pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME:
		e.Kind, e.Reason = history.AppendUnknown, Reason(a.GetError().GetReason())
	case a.GetError() != nil:
		e.Kind, e.Reason = history.AppendFail, Reason(a.GetError().GetReason())
	default:
		e.Ack = &history.Ack{
			Scope: scope(a.GetAck().GetScope()), Medium: medium(a.GetAck().GetMedium()), InSync: a.GetAck().GetInSyncReplicas(),
			Base: a.GetBaseOffset(), Epoch: a.GetLeaderEpoch(),
		}
	}
	c.write(c.client, &e)
	return e.Kind
}

// Cut notes that what a session has open will get no answer, and returns how
// much that is.
func (c *Chronicle) Cut(session uint64, why string) int {
	c.mu.Lock()
	cut := map[uint64]unclosed{}
	for op, of := range c.open {
		if of.session == session {
			cut[op] = of
			delete(c.open, op)
		}
	}
	c.mu.Unlock()
	for op, of := range cut {
		c.write(c.client, &history.Event{Kind: history.AppendUnknown, Topic: of.topic, Partition: of.partition, Op: op, Reason: why})
	}
	return len(cut)
}

// Read notes what a reader does or gets; why is of one that failed.
func (c *Chronicle) Read(k history.Kind, topic string, partition uint32, r history.Read, batches []*pb.LogBatch, why string) {
	e := history.Event{Kind: k, Topic: topic, Partition: partition, Read: &r, Reason: why}
	for _, b := range batches {
		e.Batches = append(e.Batches, history.Batch{
			Base: b.GetBaseOffset(), Epoch: b.GetLeaderEpoch(), CRC: b.GetCrc32C(), Content: Content(b.GetBatch()),
		})
	}
	c.write(c.client, &e)
}

// Fault notes that something is about to be done to a broker; 0: to another
// part, or to all.
func (c *Chronicle) Fault(kind history.FaultKind, broker int32) {
	c.write(c.driver, &history.Event{Kind: history.FaultBegin, Fault: &history.Fault{Kind: kind, Broker: broker}})
}

// Healed notes that it is over.
func (c *Chronicle) Healed(kind history.FaultKind, broker int32) {
	c.write(c.driver, &history.Event{Kind: history.FaultEnd, Fault: &history.Fault{Kind: kind, Broker: broker}})
}

// Close ends the files; again it does nothing.
func (c *Chronicle) Close() error { return errors.Join(c.client.Close(), c.driver.Close()) }

// Check closes the files and judges them. It returns the report, and prints it
// if the history violates a rule.
// REQUIRES: nothing is written any more.
func (c *Chronicle) Check(out io.Writer) (*check.Report, error) {
	if err := errors.Join(c.Close(), c.err); err != nil {
		return nil, fmt.Errorf("the history is not whole: %w", err)
	}
	r, err := history.Open(c.dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	report, err := check.Run(r)
	if err != nil {
		return nil, err
	}
	if _, failed := report.Counts(); failed > 0 {
		return report, report.Write(out, r.Where)
	}
	return report, nil
}

// Content is what is in a batch.
func Content(b *pb.RecordBatch) history.Content {
	var sum history.Sum
	for _, r := range b.GetRecords() {
		sum.Add(history.DigestRecord(r.Key, r.Value))
	}
	return sum.Content()
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

// Reason is the name of an error, as histories have it.
func Reason(r pb.ErrorReason) string { return strings.TrimPrefix(r.String(), "ERROR_REASON_") }
