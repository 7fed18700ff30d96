package check

import "github.com/millstream-io/millstream/cmd/internal/history"

// leaders are who leads a partition in which epoch.
type leaders struct {
	scribe
	epochs map[int32]*reign
	// byAck is who acknowledged in an epoch, where clients know.
	byAck map[int32]reign
}

// reign is a leader epoch.
type reign struct {
	broker int32
	began  history.Location
	ended  history.Location
	until  int64 // time at which it ended; meaningful if ended is somewhere
}

// beginLeader takes that a broker leads.
func (l *leaders) beginLeader(e *history.Event, broker int32) {
	l.judged(R16)
	if l.epochs == nil {
		l.epochs = map[int32]*reign{}
	}
	if before := l.epochs[e.Replica.Epoch]; before != nil {
		l.violated(R16, at(before.began, e.At), "broker %d leads in epoch %d, as broker %d did before it", broker, e.Replica.Epoch, before.broker)
		return
	}
	l.epochs[e.Replica.Epoch] = &reign{broker: broker, began: e.At}
}

// endLeader takes that a broker leads no longer.
func (l *leaders) endLeader(e *history.Event) {
	if r := l.epochs[e.Replica.Epoch]; r != nil && r.ended.Line == 0 {
		r.ended, r.until = e.At, e.T
	}
}

// acknowledged looks at who acknowledges, and what the acknowledgement says.
func (l *leaders) acknowledged(o *op, e *history.Event, s setting) {
	l.says(o, e, s)
	a := e.Ack
	if a.Scope == history.ScopeNone {
		return
	}
	if a.Leader != nil {
		l.judged(R16)
		if before, ok := l.byAck[a.Epoch]; ok && before.broker != *a.Leader {
			l.violated(R16, at(before.began, e.At), "brokers %d and %d acknowledge in epoch %d", before.broker, *a.Leader, a.Epoch)
		} else if !ok {
			if l.byAck == nil {
				l.byAck = map[int32]reign{}
			}
			l.byAck[a.Epoch] = reign{broker: *a.Leader, began: e.At}
		}
	}
	if l.epochs == nil {
		return
	}
	l.judged(R16)
	r := l.epochs[a.Epoch]
	switch {
	case r == nil:
		l.violated(R16, at(e.At), "acknowledged in epoch %d, in which nobody has led", a.Epoch)
	case a.Leader != nil && *a.Leader != r.broker:
		l.violated(R16, at(r.began, e.At), "broker %d acknowledges in epoch %d, in which broker %d leads", *a.Leader, a.Epoch, r.broker)
	case r.ended.Line > 0 && o.t > r.until:
		l.violated(R16, at(r.ended, o.at, e.At), "acknowledged in epoch %d, though asked for after its leader had ended", a.Epoch)
	}
}

// says compares an acknowledgement with what was asked for.
func (l *leaders) says(o *op, e *history.Event, s setting) {
	l.judged(AckSays)
	a := e.Ack
	wrong := func(format string, args ...any) { l.violated(AckSays, at(o.at, e.At, s.at), format, args...) }
	switch {
	case o.Acks == history.AcksAll && a.Scope != history.ScopeISR, o.Acks == history.AcksLeader && a.Scope == history.ScopeNone:
		wrong("acks %s were asked for, and the acknowledgement is of scope %s", o.Acks, a.Scope)
	case a.Scope == history.ScopeNone:
	case a.Medium != history.MediumMemory && a.Medium != history.MediumDisk:
		wrong("the acknowledgement says no medium")
	case a.Scope == history.ScopeISR && a.InSync == 0:
		wrong("the acknowledgement counts no replica in sync")
	case a.Scope == history.ScopeISR && a.InSync < s.minISR:
		wrong("acknowledged with %d replicas in sync, of at least %d", a.InSync, s.minISR)
	}
}
