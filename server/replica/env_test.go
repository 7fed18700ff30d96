package replica

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// three returns the assignment of a partition on brokers 1, 2, 3.
func three(epoch record.LeaderEpoch, d Durability, isr ...ID) Assignment {
	return Assignment{Epoch: epoch, Replicas: []ID{1, 2, 3}, InSync: isr, MinInSync: 2, Durability: d}
}

func (a Assignment) at(partitionEpoch int32) Assignment {
	a.PartitionEpoch = partitionEpoch
	return a
}

func progress(end, synced record.Offset) Progress { return Progress{End: end, SyncedEnd: synced} }

func wantHighWatermark(t *testing.T, l *Leader, want record.Offset) {
	t.Helper()
	if got := l.HighWatermark(); got != want {
		t.Fatalf("high watermark is %d, want %d", got, want)
	}
}

// paper is a log as a list: the epoch of each record. It is a History.
type paper struct {
	start  record.Offset
	epochs []record.LeaderEpoch
}

// log returns a log from parts: so many records of such an epoch.
func log(parts ...[2]int) *paper {
	p := &paper{}
	for _, part := range parts {
		p.write(record.LeaderEpoch(part[0]), part[1])
	}
	return p
}

func (p *paper) write(e record.LeaderEpoch, n int) {
	for range n {
		p.epochs = append(p.epochs, e)
	}
}

func (p *paper) Start() record.Offset { return p.start }

func (p *paper) End() record.Offset { return p.start + record.Offset(len(p.epochs)) }

func (p *paper) LastEpoch() record.LeaderEpoch {
	if len(p.epochs) == 0 {
		return NoEpoch
	}
	return p.epochs[len(p.epochs)-1]
}

func (p *paper) Begin() record.Offset { return p.start }

// EpochEnd looks at every record.
func (p *paper) EpochEnd(e record.LeaderEpoch) (record.LeaderEpoch, record.Offset) {
	found, end := NoEpoch, p.start
	for i, of := range p.epochs {
		if of <= e {
			found, end = of, p.start+record.Offset(i)+1
		}
	}
	return found, end
}

// written is a log of which all is on disk.
func (p *paper) written() Progress { return progress(p.End(), p.End()) }

// cut removes what is from off on; below the start, everything.
func (p *paper) cut(off record.Offset) {
	if off < p.start {
		p.start, p.epochs = off, nil
		return
	}
	p.epochs = p.epochs[:off-p.start]
}

// resume opens a session of a follower whose log ends there and agrees.
func resume(t *testing.T, l *Leader, id ID, own Progress) {
	t.Helper()
	h := &paper{}
	h.write(1, 1000)
	o, _ := l.Open(id, 7, Open{Session: 1, Epoch: l.Epoch(), LastEpoch: 1, Progress: own, Credit: 1 << 20}, h)
	if o.Error != NoError || o.Diverged || o.Reset {
		t.Fatalf("a session of %d: %+v", id, o)
	}
}

// say acks that a follower is as far as that, all of which was sent.
func say(t *testing.T, l *Leader, id ID, own Progress) Effects { //nolint:unparam // its stories have one so far
	t.Helper()
	l.members[l.index(id)].session.next = max(l.members[l.index(id)].session.next, own.End)
	e := l.Ack(id, Ack{Session: 1, Epoch: l.Epoch(), Progress: own, Credit: 1 << 20})
	if e.Fenced {
		t.Fatalf("an ack of %d was not taken", id)
	}
	return e
}

const lagMax = 10 * time.Second

// from is a log that begins with a whole batch.
func from(start record.Offset) Beginning { return Beginning{Start: start, Begin: start} }
