package partition

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// pass lets time pass, in a bubble.
func pass(d time.Duration) {
	<-time.After(d) // fake time: nothing waits
}

// Rule S6: what was written when the sync failed may be there or not; what was
// not written surely is not; nothing is acknowledged or tried again.
func TestAFailedSyncIsFinal(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		e.acked(batch("safe", 1))
		w := &sleeper{}
		if !e.p.Notify(w, 1) {
			t.Fatal("not armed")
		}
		e.fs.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*.log"})
		h := e.hold(faultfs.Sync) // the syncs after the one that fails
		a := &answers{}
		e.send(a, batch("written", 1))
		synctest.Wait()
		got := a.list()
		if len(got) != 1 || !errors.Is(got[0].Err, ErrUnknownOutcome) {
			t.Fatalf("%d answers", len(got))
		}
		mustBe[*commitlog.FailedError](t, got[0].Err) // why
		err := e.p.Append(context.Background(), batch("late", 1))
		mustBe[*FailedError](t, err)
		s := e.p.State()
		if s.Leading || wantError[*FailedError](t, s.Offline) == nil || s.HighWatermark != 1 {
			t.Fatalf("%+v", s)
		}
		if w.woken() != 1 || e.p.Notify(w, 1) {
			t.Fatalf("woken %d times", w.woken())
		}
		if _, err := e.texts(0); wantError[*FailedError](t, err) == nil {
			t.Fatal("read from a failed directory")
		}
		pass(time.Hour)
		if h.calls() != 0 {
			t.Fatal("synced again after a failed sync")
		}
		h.letGo()
	})
}

// The directory failed because of another log: here nothing is known to be
// wrong, but nothing is acknowledged either.
func TestFailWhileRequestsWait(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.limits = Limits{Requests: 3}
		e.lead(1, replica.Disk)
		e.acked(batch("safe", 1))
		syncs := e.hold(faultfs.Sync)
		a := &answers{}
		e.send(a, batch("written", 1))
		synctest.Wait()
		writes := e.hold(faultfs.Write)
		e.send(a, batch("being written", 1))
		synctest.Wait()
		e.send(a, batch("queued", 1))
		blocked := make(chan error, 1)
		go func() { blocked <- e.p.Append(context.Background(), batch("no room", 1)) }()
		synctest.Wait()
		broken := errors.New("another log")
		e.p.Fail(broken)
		e.p.Fail(errors.New("once is enough"))
		if err := <-blocked; !errors.Is(err, broken) {
			t.Fatalf("who waited for room was told %v", err)
		}
		writes.letGo()
		syncs.letGo()
		synctest.Wait()
		got := a.list()
		if len(got) != 3 || !errors.Is(got[0].Err, ErrUnknownOutcome) || !errors.Is(got[1].Err, ErrUnknownOutcome) {
			t.Fatalf("%d answers: %v, %v", len(got), got[0].Err, got[1].Err)
		}
		if failed := wantError[*FailedError](t, got[2].Err); !errors.Is(failed, broken) || errors.Is(got[2].Err, ErrUnknownOutcome) {
			t.Fatalf("the queued one: %v", got[2].Err)
		}
		if e.p.Held() != 0 {
			t.Fatalf("%d requests are held", e.p.Held())
		}
	})
}

// A full disk refuses, keeps what there is readable, and takes writes again
// when there is space; no offset is lost or doubled.
func TestDiskFullAndRecovery(t *testing.T) {
	for _, d := range []replica.Durability{replica.Memory, replica.Disk} {
		t.Run(d.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *env) {
				e.lead(1, d)
				e.acked(batch("a", 1))
				for _, room := range []int64{0, 1, 100, 5000} {
					e.fs.SetRoom(room)
					a := &answers{}
					r := e.send(a, batch(strings.Repeat("x", 6000), 1))
					synctest.Wait()
					if full := wantError[*commitlog.WriteError](t, r.Err); full.Kind != commitlog.DiskFull {
						t.Fatalf("%v", full)
					}
					if s := e.p.State(); s.Offline != nil || !s.Leading || s.End != 1 {
						t.Fatalf("with %d bytes of room: %+v", room, s)
					}
					e.wantLog("a#0")
				}
				e.fs.SetRoom(-1)
				if r := e.acked(batch("b", 1)); r.Base != 1 {
					t.Fatalf("base offset %d", r.Base)
				}
				e.wantLog("a#0", "b#0")
				if e.seen.refused != 4 {
					t.Fatalf("%d counted", e.seen.refused)
				}
			})
		})
	}
}

// The same when only the checkpoint cannot be written: the batch is in the
// log, but rule S2 forbids to acknowledge it.
func TestNoCheckpointNoAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		e.acked(batch("a", 1))
		rule := &faultfs.Rule{Op: faultfs.Write, Path: "checkpoint", Times: -1}
		e.fs.Add(rule)
		a := &answers{}
		r := e.send(a, batch("b", 1))
		synctest.Wait()
		if !errors.Is(r.Err, ErrUnknownOutcome) || e.p.State().HighWatermark != 1 {
			t.Fatalf("%v, %+v", r.Err, e.p.State())
		}
		e.fs.Clear()
		pass(2 * time.Second) // the idle partition tries again
		synctest.Wait()
		if s := e.p.State(); s.HighWatermark != 2 || s.Offline != nil {
			t.Fatalf("%+v", s)
		}
		if r := e.acked(batch("c", 1)); r.Base != 2 {
			t.Fatalf("base offset %d", r.Base)
		}
	})
}

func TestReadOnlyDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		e.acked(batch("a", 1))
		e.fs.SetReadOnly(true)
		a := &answers{}
		r := e.send(a, batch("b", 1))
		synctest.Wait()
		if refused := wantError[*commitlog.WriteError](t, r.Err); refused.Kind != commitlog.ReadOnly {
			t.Fatalf("%v", refused)
		}
		e.wantLog("a#0")
		e.fs.SetReadOnly(false)
		e.acked(batch("c", 1))
		e.wantLog("a#0", "c#0")
	})
}

// A write that fails behind one that waits for its sync is answered behind it.
func TestARefusalDoesNotOvertake(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		e.acked(batch("a", 1))
		h := e.hold(faultfs.Sync)
		a := &answers{}
		waits := e.send(a, batch("b", 1))
		synctest.Wait()
		e.fs.SetRoom(0)
		refused := e.send(a, batch("c", 1))
		synctest.Wait()
		if len(a.list()) != 0 {
			t.Fatal("the refusal overtook")
		}
		e.fs.SetRoom(-1)
		h.letGo()
		synctest.Wait()
		if got := a.list(); len(got) != 2 || got[0] != waits || got[0].Err != nil || got[1] != refused {
			t.Fatalf("%d answers", len(got))
		}
		mustBe[*commitlog.WriteError](t, refused.Err)
	})
}

// Rule T2: after a refusal nothing of the lane is written until a restart,
// also while the refusal itself still waits for its turn to be answered.
func TestALaneKeepsItsOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		e.acked(batch("a", 1))
		var lane, other Lane
		h := e.hold(faultfs.Sync)
		a := &answers{}
		send := func(text string, l *Lane, restart bool) *Request {
			r := batch(text, 1)
			r.Lane, r.Restart = l, restart
			e.send(a, r)
			synctest.Wait()
			return r
		}
		waits := send("waits", &lane, false)
		e.fs.SetRoom(0)
		refused := send("refused", &lane, false)
		e.fs.SetRoom(-1)
		behind := send("behind", &lane, false)
		stranger := send("stranger", &other, false)
		again := send("again", &lane, true)
		next := send("next", &lane, false)
		h.letGo()
		synctest.Wait()
		mustBe[*commitlog.WriteError](t, refused.Err)
		if !errors.Is(behind.Err, ErrPrecedingFailed) {
			t.Fatalf("behind a refusal: %v", behind.Err)
		}
		for _, r := range []*Request{waits, stranger, again, next} {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		if lane.Failed() || len(a.list()) != 6 {
			t.Fatalf("%d answers, lane failed: %v", len(a.list()), lane.Failed())
		}
		e.wantLog("a#0", "waits#0", "stranger#0", "again#0", "next#0")
	})
}

// Damage that a reader meets: a typed error, a quarantine with its reason, no
// more writes; what verifies can be read.
func TestAReaderMeetsDamage(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		for _, text := range []string{"first", "second", "third"} {
			e.acked(batch(text, 1))
		}
		pass(2 * time.Second) // so that it is read from the disk
		rot(t, e, "second")
		got, err := e.texts(0)
		damage := wantError[*segment.CorruptError](t, err)
		if damage.Offset != 1 || len(got) > 1 {
			t.Fatalf("%v; read %v", damage, got)
		}
		s := e.p.State()
		if q := wantError[*QuarantinedError](t, s.Offline); !errors.Is(q, damage) || s.Leading {
			t.Fatalf("%+v", s)
		}
		if err := e.p.Append(context.Background(), batch("late", 1)); wantError[*QuarantinedError](t, err) == nil {
			t.Fatal("a damaged log took a batch")
		}
		if got, err := e.texts(2); err != nil || got[2] != "third#0" {
			t.Fatalf("behind the damage: %v, %v", got, err)
		}
		if len(e.seen.quarantined) != 1 {
			t.Fatalf("told %d times", len(e.seen.quarantined))
		}
	})
}

// rot flips a bit of the stored text.
func rot(t *testing.T, e *env, text string) {
	t.Helper()
	f, err := e.mem.OpenFile(logDir+"/00000000000000000000.log", 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a test
	size, _ := f.Size()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), text)
	if _, err := f.WriteAt([]byte{b[at] ^ 1}, int64(at)); err != nil {
		t.Fatal(err)
	}
}

// Damage that recovery finds: the partition begins quarantined, is led, and
// can be read where it is good.
func TestAPartitionBeginsDamaged(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		e.acked(batch("first", 1))
		e.acked(batch("second", 1))
		e.acked(batch("third", 1))
		crashed := e.on(e.mem.Clone())
		rot(t, crashed, "third")
		// The checkpoint is lost, so that recovery reads all; the third batch's
		// place is known from no later batch, so the second is what rots here.
		rot(t, crashed, "first")
		if err := crashed.mem.Remove(logDir + "/checkpoint"); err != nil {
			t.Fatal(err)
		}
		crashed.openOn(crashed.fs)
		if crashed.rec.Damaged == nil {
			t.Fatalf("recovery found nothing: %+v", crashed.rec)
		}
		crashed.p.Lead(alone(2, replica.Disk))
		s := crashed.p.State()
		if wantError[*QuarantinedError](t, s.Offline) == nil || len(crashed.seen.failed) != 0 {
			t.Fatalf("%+v, failed %v", s, crashed.seen.failed)
		}
		if err := crashed.p.Append(context.Background(), batch("late", 1)); wantError[*QuarantinedError](t, err) == nil {
			t.Fatal("a damaged log took a batch")
		}
		if _, err := crashed.texts(0); err != nil {
			mustBe[*segment.CorruptError](t, err)
		}
		if err := crashed.p.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTimestampsTooFarAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		r := batch("a", 1)
		r.Summary.HasTimestamp = true
		r.Summary.MaxTimestampMs = time.Now().Add(time.Hour + time.Second).UnixMilli()
		err := e.p.Append(context.Background(), r)
		if far := wantError[*TimestampError](t, err); far.MaxAheadMs != 3_600_000 || far.TimestampMs-far.NowMs != 3_601_000 {
			t.Fatalf("%+v", far)
		}
		// As far in the past as there is: the difference must not wrap.
		past := batch("b", 1)
		past.Summary.HasTimestamp, past.Summary.MaxTimestampMs = true, math.MinInt64
		e.acked(past)
		// With append times the producer's do not matter.
		e.p.SetSettings(Settings{AppendTime: true, MaxAheadMs: 1})
		e.acked(r)
		off, found, err := e.p.OffsetForTime(t.Context(), time.Now().Add(-time.Second).UnixMilli())
		if err != nil || !found || off != 0 {
			t.Fatalf("%d, %v, %v", off, found, err)
		}
		if _, found, err := e.p.OffsetForTime(t.Context(), time.Now().Add(time.Minute).UnixMilli()); err != nil || found {
			t.Fatalf("found in the future: %v, %v", found, err)
		}
	})
}

func TestDeleteRecordsAndPositions(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		e.acked(batch("a", 10))
		if !e.p.Lead(alone(3, replica.Memory)) {
			t.Fatal("does not lead on")
		}
		e.acked(batch("b", 10))
		for _, ok := range []struct {
			off   record.Offset
			epoch record.LeaderEpoch
		}{{0, 0}, {0, 9}, {1, 1}, {10, 1}, {11, 3}, {20, 3}} {
			if err := e.p.CheckEpoch(ok.off, ok.epoch); err != nil {
				t.Errorf("%d of epoch %d: %v", ok.off, ok.epoch, err)
			}
		}
		for _, bad := range []struct {
			off   record.Offset
			epoch record.LeaderEpoch
			want  DivergedError
		}{
			{12, 1, DivergedError{Epoch: 1, SafeOffset: 10}},
			{15, 2, DivergedError{Epoch: 1, SafeOffset: 10}},
			{25, 3, DivergedError{Epoch: 3, SafeOffset: 20}},
			{15, 7, DivergedError{Epoch: 3, SafeOffset: 15}},
			{15, 0, DivergedError{Epoch: -1, SafeOffset: 0}},
		} {
			if got := wantError[*DivergedError](t, e.p.CheckEpoch(bad.off, bad.epoch)); *got != bad.want {
				t.Errorf("%d of epoch %d: %+v, want %+v", bad.off, bad.epoch, *got, bad.want)
			}
		}
		ctx := t.Context()
		if _, err := e.p.DeleteRecords(ctx, 21); wantError[*commitlog.OffsetOutOfRangeError](t, err).End != 20 {
			t.Fatal(err)
		}
		if start, err := e.p.DeleteRecords(ctx, 12); err != nil || start != 12 || e.p.State().LogStart != 12 {
			t.Fatalf("%d, %v", start, err)
		}
		if start, err := e.p.DeleteRecords(ctx, 3); err != nil || start != 12 {
			t.Fatalf("the log start went back to %d: %v", start, err)
		}
		if _, err := e.texts(11); wantError[*commitlog.OffsetOutOfRangeError](t, err).Start != 12 {
			t.Fatal(err)
		}
		if _, err := e.texts(21); wantError[*commitlog.OffsetOutOfRangeError](t, err).End != 20 {
			t.Fatal(err)
		}
	})
}

func TestRetention(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.config = commitlog.Config{RetentionAge: time.Minute}
		e.lead(1, replica.Disk)
		e.acked(batch("old", 1))
		pass(2 * time.Minute)
		e.acked(batch("new", 1))
		if removed, err := e.p.Retain(time.Now()); err != nil || removed != 0 {
			t.Fatalf("%d, %v: the segment has a new record", removed, err)
		}
		pass(2 * time.Minute)
		if removed, err := e.p.Retain(time.Now()); err != nil || removed != 1 {
			t.Fatalf("%d, %v", removed, err)
		}
		if s := e.p.State(); s.LogStart != 2 || s.End != 2 || s.HighWatermark != 2 {
			t.Fatalf("%+v", s)
		}
		if n := e.mem.OpenFiles(); n != 0 {
			t.Fatalf("%d files are open after retention on an idle partition", n)
		}
	})
}

// A sync that could not be begun, for want of a descriptor or because the log
// is closed, has not failed: what waits for it is answered with an unknown
// outcome, nothing of it can be read, and the partition syncs it later by
// itself.
func TestASyncThatCouldNotBeginIsTriedAgain(t *testing.T) {
	scarce := &commitlog.WriteError{Kind: commitlog.TooManyFiles, Doing: "sync", Err: syscall.EMFILE}
	for _, cause := range []error{scarce, commitlog.ErrClosed} {
		inBubble(t, func(t *testing.T, e *env) {
			e.lead(1, replica.Disk)
			e.acked(batch("a", 1))
			e.flusher.refuse.Store(&cause)
			a := &answers{}
			for n, text := range []string{"b", "c"} {
				r := e.send(a, batch(text, 1))
				synctest.Wait()
				if len(a.list()) != n+1 || !errors.Is(r.Err, ErrUnknownOutcome) || !errors.Is(r.Err, cause) {
					t.Fatalf("%d answers: %v", len(a.list()), r.Err)
				}
			}
			pass(10 * time.Second)
			synctest.Wait()
			if s := e.p.State(); s.Offline != nil || !s.Leading || s.End != 3 || s.SyncedEnd != 1 || s.HighWatermark != 1 {
				t.Fatalf("%+v", s)
			}
			e.wantLog("a#0")
			e.flusher.refuse.Store(nil)
			pass(2 * time.Second)
			synctest.Wait()
			if s := e.p.State(); s.SyncedEnd != 3 || s.HighWatermark != 3 || e.p.Held() != 0 {
				t.Fatalf("not synced later: %+v", s)
			}
			e.acked(batch("d", 1))
			e.wantLog("a#0", "b#0", "c#0", "d#0")
			if len(e.seen.failed) != 0 {
				t.Fatalf("told of %v", e.seen.failed)
			}
		})
	}
}

// At MEMORY nobody waits for a sync.
func TestMemoryDoesNotMindARefusedSync(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		var cause error = &commitlog.WriteError{Kind: commitlog.TooManyFiles, Doing: "sync", Err: syscall.EMFILE}
		e.flusher.refuse.Store(&cause)
		e.acked(batch("a", 1))
		e.p.SyncInBackground()
		e.acked(batch("b", 1))
		e.flusher.refuse.Store(nil)
		e.p.SyncInBackground()
		synctest.Wait()
		if s := e.p.State(); s.Offline != nil || s.SyncedEnd != 2 {
			t.Fatalf("%+v", s)
		}
	})
}

// A failure is final also when what caused it is a refusal, and when the
// directory failed because of one elsewhere.
func TestAFailureBecauseOfARefusalIsFinal(t *testing.T) {
	refused := &commitlog.WriteError{Kind: commitlog.TooManyFiles, Doing: "seal segment", Err: syscall.EMFILE}
	for _, end := range []syncEnd{{err: &commitlog.FailedError{Cause: refused}}, {err: refused, abandoned: true}} {
		inBubble(t, func(t *testing.T, e *env) {
			e.lead(1, replica.Disk)
			e.acked(batch("a", 1))
			h := e.hold(faultfs.Sync)
			a := &answers{}
			r := e.send(a, batch("b", 1))
			synctest.Wait()
			e.p.synced(end)
			synctest.Wait()
			if len(a.list()) != 1 || !errors.Is(r.Err, ErrUnknownOutcome) {
				t.Fatalf("%d answers: %v", len(a.list()), r.Err)
			}
			mustBe[*FailedError](t, e.p.State().Offline)
			h.letGo()
			e.flusher.running.Wait()
		})
	}
}

// A log that fails while its start is moved may begin there after a restart, and
// may not. One that refuses does not.
func TestDeletedRecordsOfAFailedLogAreUnknown(t *testing.T) {
	for _, c := range []struct {
		rule faultfs.Rule
		left []record.Offset // where it may begin after a restart
	}{
		{faultfs.Rule{Op: faultfs.Sync, Path: "checkpoint"}, []record.Offset{0, 5}},
		{faultfs.Rule{Op: faultfs.Write, Path: "checkpoint", Skip: 1}, []record.Offset{0}},
	} {
		inBubble(t, func(t *testing.T, e *env) {
			e.lead(1, replica.Disk)
			e.acked(batch("a", 10))
			e.fs.Add(&c.rule)
			start, err := e.p.DeleteRecords(t.Context(), 5)
			if start != 0 || err == nil {
				t.Fatalf("begins at %d, %v", start, err)
			}
			if unknown := errors.Is(err, ErrUnknownOutcome); unknown != (len(c.left) > 1) || unknown == harmless(err) {
				t.Errorf("%+v: %v", c.rule, err)
			}
			again := newEnv(t).on(e.mem.Crash(memfs.LoseUnsynced()))
			again.openOn(again.fs)
			if got := again.p.State().LogStart; !slices.Contains(c.left, got) {
				t.Errorf("%+v: begins at %d", c.rule, got)
			}
			_ = again.p.Close() // the end of the story
		})
	}
}
