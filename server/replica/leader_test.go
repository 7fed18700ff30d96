package replica

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

func TestOneReplicaAlone(t *testing.T) {
	l := New(1)
	alone := Assignment{Epoch: 4, Replicas: []ID{1}, InSync: []ID{1}, MinInSync: 2, Durability: Disk}
	// It comes back with 10 records, 7 of them surely on disk.
	e := l.Lead(alone, progress(10, 7), 0)
	if !e.NeedSync || !e.Advanced || e.HighWatermark != 7 {
		t.Fatalf("after a restart: %+v", e)
	}
	if l.KnowsEnd() {
		t.Fatal("ten records may have been read before")
	}
	if l.EffectiveMinInSync() != 1 || l.InSync() != 1 {
		t.Fatalf("min ISR 2 of one replica is effectively %d", l.EffectiveMinInSync())
	}
	if e = l.Advance(1, 4, progress(12, 7)); !e.NeedSync || e.Advanced {
		t.Fatalf("an append without a sync: %+v", e)
	}
	if e = l.Advance(1, 4, progress(12, 12)); e.NeedSync || e.HighWatermark != 12 || l.Durability() != Disk {
		t.Fatalf("a sync: %+v, %v", e, l.Durability())
	}
	if l.ReadableEnd() != 12 || l.OwnAckEnd() != 12 || !l.KnowsEnd() {
		t.Fatalf("readable end %d, own ack end %d", l.ReadableEnd(), l.OwnAckEnd())
	}
}

func TestHighWatermarkIsTheLeastOfTheISR(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2, 3), progress(10, 0), 0)
	resume(t, &l, 2, progress(8, 0))
	wantHighWatermark(t, &l, 0)
	resume(t, &l, 3, progress(5, 0))
	wantHighWatermark(t, &l, 5)
	// An old message of replica 3 changes nothing.
	say(t, &l, 3, progress(4, 0))
	wantHighWatermark(t, &l, 5)
	for why, a := range map[string]Ack{
		"an older epoch":           {Session: 1, Epoch: 0, Progress: progress(5, 0)},
		"another session":          {Session: 2, Epoch: 1, Progress: progress(5, 0)},
		"records that nobody sent": {Session: 1, Epoch: 1, Progress: progress(9, 0)},
	} {
		if e := l.Ack(3, a); !e.Fenced {
			t.Errorf("an ack of %s was taken", why)
		}
	}
	if e := l.Ack(9, Ack{Session: 1, Epoch: 1}); !e.Fenced {
		t.Error("an ack of a stranger was taken")
	}
	wantHighWatermark(t, &l, 5)
}

func TestProposedRemovalCountsUntilConfirmed(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2, 3), progress(10, 0), 0)
	resume(t, &l, 2, progress(10, 0))
	resume(t, &l, 3, progress(5, 0))
	only := func(ids ...ID) func(int) bool {
		return func(i int) bool { return contains(ids, l.members[i].id) }
	}
	l.propose(only(1, 2))
	wantHighWatermark(t, &l, 5)
	if e := l.Confirm(three(1, Memory, 1, 2).at(1)); !e.Advanced {
		t.Fatal("a confirmed removal must let the high watermark move")
	}
	wantHighWatermark(t, &l, 10)
	// A proposed addition counts at once: replica 3 is behind.
	l.propose(only(1, 2, 3))
	l.Advance(1, 1, progress(20, 0))
	say(t, &l, 2, progress(20, 0))
	wantHighWatermark(t, &l, 10)
	say(t, &l, 3, progress(15, 0))
	wantHighWatermark(t, &l, 15)
	// Nobody knows what became of that. Another proposal does not make replica 3
	// count less: the first may have been taken.
	l.propose(only(1, 2))
	wantHighWatermark(t, &l, 15)
	if e := l.Refused(1); !e.Fenced {
		t.Fatal("the refusal of the second proposal says nothing of the first")
	}
	wantHighWatermark(t, &l, 15)
	l.Confirm(three(1, Memory, 1, 2).at(2))
	wantHighWatermark(t, &l, 20)
}

func contains(ids []ID, id ID) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

func TestBelowMinISRNothingIsCommitted(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1), progress(10, 10), 3)
	wantHighWatermark(t, &l, 3)
	resume(t, &l, 2, progress(10, 0))
	// A proposal alone does not count towards the minimum.
	if p, ok := l.Tick(0, lagMax, nil); !ok || len(p.InSync) != 2 {
		t.Fatalf("%+v", p)
	}
	wantHighWatermark(t, &l, 3)
	l.Confirm(three(1, Memory, 1, 2).at(1))
	wantHighWatermark(t, &l, 10)
	if e := l.Confirm(three(1, Memory, 1)); !e.Fenced {
		t.Fatal("an older record was taken")
	}
}

func TestDiskTakesEffectOnceAllIsOnDisk(t *testing.T) {
	l := New(1)
	alone := Assignment{Epoch: 1, Replicas: []ID{1}, InSync: []ID{1}, MinInSync: 1, Durability: Memory}
	l.Lead(alone, progress(10, 2), 0)
	wantHighWatermark(t, &l, 10)
	if l.Durability() != Memory {
		t.Fatal("a topic of MEMORY acknowledged DISK")
	}
	alone.Durability, alone.PartitionEpoch = Disk, 1
	if e := l.Confirm(alone); !e.NeedSync || l.Durability() != Memory {
		t.Fatalf("%+v, %v: eight committed records are not on disk", e, l.Durability())
	}
	if l.ReadableEnd() != 10 {
		t.Fatalf("the readable end went back to %d", l.ReadableEnd())
	}
	l.Advance(1, 1, progress(15, 5))
	wantHighWatermark(t, &l, 10)
	if l.ReadableEnd() != 10 || l.Durability() != Memory {
		t.Fatalf("readable end %d, durability %v", l.ReadableEnd(), l.Durability())
	}
	l.Advance(1, 1, progress(15, 12))
	wantHighWatermark(t, &l, 12)
	if l.Durability() != Disk || l.ReadableEnd() != 12 {
		t.Fatalf("durability %v, readable end %d", l.Durability(), l.ReadableEnd())
	}
	// Back to MEMORY at once.
	alone.Durability, alone.PartitionEpoch = Memory, 2
	l.Confirm(alone)
	wantHighWatermark(t, &l, 15)
}

func TestFencing(t *testing.T) {
	l := New(1)
	if e := l.Lead(three(3, Disk, 2, 3), progress(0, 0), 0); !e.Fenced {
		t.Fatal("led without being in sync")
	}
	if _, ok := l.Tick(0, lagMax, nil); ok {
		t.Fatal("proposed without leading")
	}
	l.Lead(three(3, Disk, 1, 2), progress(0, 0), 0)
	if e := l.Lead(three(3, Disk, 1, 2), progress(0, 0), 0); !e.Fenced {
		t.Fatal("led twice in one epoch")
	}
	resume(t, &l, 2, progress(0, 0))
	l.Resign(5)
	if l.Leading() || l.Epoch() != 5 {
		t.Fatalf("leading %v in epoch %d", l.Leading(), l.Epoch())
	}
	if e := l.Ack(2, Ack{Session: 1, Epoch: 3}); !e.Fenced {
		t.Fatal("took an ack without leading")
	}
	if e := l.Lead(three(4, Disk, 1, 2), progress(0, 0), 0); !e.Fenced {
		t.Fatal("led in an older epoch")
	}
	if e := l.Lead(three(6, Disk, 1, 2), progress(0, 0), 0); e.Fenced {
		t.Fatal("refused to lead in a newer epoch")
	}
}

func TestNewLeaderBehindTheOldHighWatermark(t *testing.T) {
	l := New(2)
	// The last push said 40; the old leader was at 50 when it died, and clients
	// have seen it.
	l.Lead(three(2, Memory, 2, 3), progress(50, 0), 40)
	wantHighWatermark(t, &l, 40)
	if l.KnowsEnd() {
		t.Fatal("it tells an end that is older than one that was seen")
	}
	resume(t, &l, 3, progress(45, 0))
	if wantHighWatermark(t, &l, 45); l.KnowsEnd() {
		t.Fatal("five records are missing")
	}
	if say(t, &l, 3, progress(50, 0)); !l.KnowsEnd() {
		t.Fatal("all that it had is committed")
	}
}

func TestFreshness(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2), progress(0, 0), 0)
	heardAt := 10 * time.Second
	heard := func(ID) time.Duration { return heardAt }
	if l.Fresh(heardAt, time.Second, heard) {
		t.Fatal("replica 2 may follow somebody else")
	}
	resume(t, &l, 2, progress(0, 0))
	if !l.Fresh(heardAt+time.Second, time.Second, heard) {
		t.Fatal("it was heard a second ago")
	}
	if l.Fresh(heardAt+time.Second+1, time.Second, heard) {
		t.Fatal("it was heard longer ago")
	}
	l.Close(2, 1)
	if l.Fresh(heardAt, time.Second, heard) {
		t.Fatal("it has ended its session")
	}
}

func BenchmarkAck(b *testing.B) {
	l := New(1)
	l.Lead(three(1, Disk, 1, 2, 3), progress(0, 0), 0)
	for id := ID(2); id <= 3; id++ {
		l.Open(id, 7, Open{Session: 1, Epoch: 1, LastEpoch: NoEpoch, Credit: 1 << 60}, log())
	}
	b.ReportAllocs()
	for i := range b.N {
		end := record.Offset(i + 1)
		l.Advance(1, 1, progress(end, end))
		for id := ID(2); id <= 3; id++ {
			o, _ := l.Offer(id, from(0), 0)
			l.Sent(id, o, end, 100, 0)
			l.Ack(id, Ack{Session: 1, Epoch: 1, Progress: progress(end, end)})
		}
	}
}
