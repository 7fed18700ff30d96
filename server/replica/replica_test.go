package replica

import (
	"testing"

	"github.com/millstream-io/millstream/storage/record"
)

// three returns the assignment of a partition on brokers 1, 2, 3.
func three(epoch record.LeaderEpoch, d Durability, isr ...ID) Assignment {
	return Assignment{Epoch: epoch, Replicas: []ID{1, 2, 3}, InSync: isr, MinInSync: 2, Durability: d}
}

func ends(end, synced record.Offset) Progress { return Progress{End: end, SyncedEnd: synced} }

func wantHighWatermark(t *testing.T, l *Leader, want record.Offset) {
	t.Helper()
	if got := l.HighWatermark(); got != want {
		t.Fatalf("high watermark is %d, want %d", got, want)
	}
}

func TestOneReplicaAlone(t *testing.T) {
	l := New(1)
	alone := Assignment{Epoch: 4, Replicas: []ID{1}, InSync: []ID{1}, MinInSync: 2, Durability: Disk}
	// It comes back with 10 records, 7 of them surely on disk.
	e := l.Lead(alone, ends(10, 7), 0)
	if !e.NeedSync || !e.Advanced || e.HighWatermark != 7 {
		t.Fatalf("after a restart: %+v", e)
	}
	if l.EffectiveMinInSync() != 1 || l.InSync() != 1 {
		t.Fatalf("min ISR 2 of one replica is effectively %d", l.EffectiveMinInSync())
	}
	if e = l.Advance(1, 4, ends(12, 7)); !e.NeedSync || e.Advanced {
		t.Fatalf("an append without a sync: %+v", e)
	}
	if e = l.Advance(1, 4, ends(12, 12)); e.NeedSync || e.HighWatermark != 12 || l.Durability() != Disk {
		t.Fatalf("a sync: %+v, %v", e, l.Durability())
	}
	if l.ReadableEnd() != 12 || l.OwnAckEnd() != 12 {
		t.Fatalf("readable end %d, own ack end %d", l.ReadableEnd(), l.OwnAckEnd())
	}
}

func TestHighWatermarkIsTheLeastOfTheISR(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2, 3), ends(10, 0), 0)
	l.Advance(2, 1, ends(8, 0))
	wantHighWatermark(t, &l, 0)
	l.Advance(3, 1, ends(5, 0))
	wantHighWatermark(t, &l, 5)
	// An old message of replica 3 changes nothing.
	l.Advance(3, 1, ends(4, 0))
	wantHighWatermark(t, &l, 5)
	// A message of another epoch counts for nothing.
	if e := l.Advance(3, 0, ends(9, 9)); !e.Fenced {
		t.Fatal("an ack of an older epoch was taken")
	}
	if e := l.Advance(9, 1, ends(9, 9)); !e.Fenced {
		t.Fatal("an ack of a stranger was taken")
	}
}

func TestProposedRemovalCountsUntilConfirmed(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2, 3), ends(10, 0), 0)
	l.Advance(2, 1, ends(10, 0))
	l.Advance(3, 1, ends(5, 0))
	l.Propose([]ID{1, 2})
	wantHighWatermark(t, &l, 5)
	confirmed := three(1, Memory, 1, 2)
	confirmed.PartitionEpoch = 1
	if e := l.Confirm(confirmed); !e.Advanced {
		t.Fatal("a confirmed removal must let the high watermark move")
	}
	wantHighWatermark(t, &l, 10)
	// A proposed addition counts at once: replica 3 is behind.
	l.Propose([]ID{1, 2, 3})
	l.Advance(1, 1, ends(20, 0))
	l.Advance(2, 1, ends(20, 0))
	wantHighWatermark(t, &l, 10)
	l.Advance(3, 1, ends(15, 0))
	wantHighWatermark(t, &l, 15)
}

func TestBelowMinISRNothingIsCommitted(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1), ends(10, 10), 3)
	wantHighWatermark(t, &l, 3)
	// A proposal alone does not count towards the minimum.
	l.Propose([]ID{1, 2})
	l.Advance(2, 1, ends(10, 0))
	wantHighWatermark(t, &l, 3)
	confirmed := three(1, Memory, 1, 2)
	confirmed.PartitionEpoch = 1
	l.Confirm(confirmed)
	wantHighWatermark(t, &l, 10)
	stale := three(1, Memory, 1)
	if e := l.Confirm(stale); !e.Fenced {
		t.Fatal("an older record was taken")
	}
}

func TestDiskTakesEffectOnceAllIsOnDisk(t *testing.T) {
	l := New(1)
	alone := Assignment{Epoch: 1, Replicas: []ID{1}, InSync: []ID{1}, MinInSync: 1, Durability: Memory}
	l.Lead(alone, ends(10, 2), 0)
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
	l.Advance(1, 1, ends(15, 5))
	wantHighWatermark(t, &l, 10)
	if l.ReadableEnd() != 10 || l.Durability() != Memory {
		t.Fatalf("readable end %d, durability %v", l.ReadableEnd(), l.Durability())
	}
	l.Advance(1, 1, ends(15, 12))
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
	if e := l.Lead(three(3, Disk, 2, 3), ends(0, 0), 0); !e.Fenced {
		t.Fatal("led without being in sync")
	}
	if e := l.Propose([]ID{1}); !e.Fenced {
		t.Fatal("proposed without leading")
	}
	l.Lead(three(3, Disk, 1, 2), ends(0, 0), 0)
	if e := l.Lead(three(3, Disk, 1, 2), ends(0, 0), 0); !e.Fenced {
		t.Fatal("led twice in one epoch")
	}
	l.Resign(5)
	if l.Leading() || l.Epoch() != 5 {
		t.Fatalf("leading %v in epoch %d", l.Leading(), l.Epoch())
	}
	if e := l.Advance(2, 3, ends(1, 1)); !e.Fenced {
		t.Fatal("took an ack without leading")
	}
	if e := l.Lead(three(4, Disk, 1, 2), ends(0, 0), 0); !e.Fenced {
		t.Fatal("led in an older epoch")
	}
	if e := l.Lead(three(6, Disk, 1, 2), ends(0, 0), 0); e.Fenced {
		t.Fatal("refused to lead in a newer epoch")
	}
}

func BenchmarkAdvance(b *testing.B) {
	l := New(1)
	l.Lead(three(1, Disk, 1, 2, 3), ends(0, 0), 0)
	b.ReportAllocs()
	for i := range b.N {
		l.Advance(ID(1+i%3), 1, ends(record.Offset(i), record.Offset(i)))
	}
}
