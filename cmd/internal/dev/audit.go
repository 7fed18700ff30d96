package dev

import (
	"fmt"
	"log/slog"

	"github.com/millstream-io/millstream/cmd/internal/history"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// audit writes down what the replicas of a broker do, and what it is told of the
// metadata.
type audit struct {
	w      *history.Writer
	logger *slog.Logger
}

// openAudit begins the history of an incarnation of a broker.
func openAudit(dir string, broker int32, logger *slog.Logger) (*audit, error) {
	w, err := history.Create(history.Options{
		Dir: dir, Name: fmt.Sprintf("broker-%d", broker), Role: history.RoleBroker, Broker: broker,
	})
	if err != nil {
		return nil, fmt.Errorf("--audit-dir: %w", err)
	}
	a := &audit{w: w, logger: logger}
	a.record(&history.Event{Kind: history.BrokerStart})
	return a, nil
}

// close ends it.
func (a *audit) close() error {
	a.record(&history.Event{Kind: history.BrokerStop})
	return a.w.Close()
}

func (a *audit) record(e *history.Event) {
	if err := a.w.Record(e); err != nil {
		a.logger.Error("history not written", "err", err)
	}
}

// of returns who writes down what one replica does.
func (a *audit) of(topic string, number uint32) partition.Auditor {
	return &auditor{a, topic, number}
}

// gone writes down that the log of a replica was moved to the trash.
func (a *audit) gone(topic string, number uint32) {
	a.record(&history.Event{Kind: history.LogGone, Topic: topic, Partition: number})
}

// auditor writes down what one replica does.
type auditor struct {
	a         *audit
	topic     string
	partition uint32
}

func (a *auditor) say(kind history.Kind, reason string, r history.Replica) {
	a.a.record(&history.Event{Kind: kind, Topic: a.topic, Partition: a.partition, Reason: reason, Replica: &r})
}

func settingsOf(as *replica.Assignment, minInSync int, highWatermark record.Offset) history.Replica {
	r := history.Replica{
		Epoch: int32(as.Epoch), PartitionEpoch: as.PartitionEpoch, HighWatermark: int64(highWatermark), MinISR: uint32(minInSync), Medium: history.MediumDisk,
	}
	if as.Durability == replica.Memory {
		r.Medium = history.MediumMemory
	}
	for _, id := range as.InSync {
		r.ISR = append(r.ISR, int32(id))
	}
	return r
}

func (a *auditor) Led(as replica.Assignment, minInSync int, highWatermark record.Offset) {
	a.say(history.LeaderBegin, "", settingsOf(&as, minInSync, highWatermark))
}

func (a *auditor) InSync(as replica.Assignment, minInSync int) {
	a.say(history.ISR, "", settingsOf(&as, minInSync, 0))
}

func (a *auditor) Heard(id replica.ID, epoch record.LeaderEpoch, has replica.Progress) {
	a.say(history.ReplicaHeard, "", history.Replica{Epoch: int32(epoch), Of: int32(id), End: int64(has.End)})
}

func (a *auditor) Resigned(epoch record.LeaderEpoch) {
	a.say(history.LeaderEnd, "", history.Replica{Epoch: int32(epoch)})
}

func (a *auditor) Committed(epoch record.LeaderEpoch, highWatermark record.Offset) {
	a.say(history.HighWatermark, "", history.Replica{Epoch: int32(epoch), HighWatermark: int64(highWatermark)})
}

func (a *auditor) Written(end record.Offset) {
	a.say(history.LogWritten, "", history.Replica{End: int64(end)})
}

func (a *auditor) Synced(end record.Offset) {
	a.say(history.LogSynced, "", history.Replica{End: int64(end)})
}

func (a *auditor) Truncated(from, to record.Offset) {
	a.say(history.LogTruncated, "diverged", history.Replica{From: int64(from), To: int64(to)})
}

func (a *auditor) Started(start record.Offset) {
	a.say(history.LogStart, "retention", history.Replica{Start: int64(start)})
}
