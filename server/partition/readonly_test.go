package partition

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
)

// A process that starts on a disk that cannot be written to serves what was
// acknowledged, and says of no offset of it that it is out of range; what it
// cannot take it refuses.
func TestStartOnAReadOnlyDisk(t *testing.T) {
	for _, boot := range []byte{1, 9} { // killed, or after a loss of power
		inBubble(t, func(t *testing.T, e *env) {
			e.lead(1, replica.Disk)
			for _, text := range []string{"a", "b", "c"} {
				e.acked(batch(text, 1))
			}
			if _, err := e.p.DeleteRecords(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if err := e.p.SyncCheckpoint(); err != nil {
				t.Fatal(err)
			}
			next := e.on(e.mem.Clone())
			next.bootID = [16]byte{boot}
			next.fs.SetReadOnly(true)
			next.lead(2, replica.Disk)
			synctest.Wait()
			next.wantLog("b#0", "c#0")
			if s := next.p.State(); s.LogStart != 1 || s.HighWatermark != 3 || s.Offline != nil {
				t.Fatalf("%+v", s)
			}
			if err := next.p.AwaitEnd(t.Context()); err != nil {
				t.Fatal(err)
			}
			a := &answers{}
			r := next.send(a, batch("d", 1))
			synctest.Wait()
			if refused := wantError[*commitlog.WriteError](t, r.Err); refused.Kind != commitlog.ReadOnly {
				t.Fatalf("%v", refused)
			}
			next.fs.SetReadOnly(false)
			pass(3 * time.Second) // until its files are opened again
			if r := next.acked(batch("e", 1)); r.Base != record.Offset(3) {
				t.Fatalf("appended at %d", r.Base)
			}
			next.wantLog("b#0", "c#0", "e#0")
			_ = next.p.Close()
			next.flusher.running.Wait()
		})
	}
}

// A log that recovery has something to do to, and cannot, is served up to where it
// is sure of it: what a killed process acknowledged, and after a loss of power what
// is known to be on the disk. It takes nothing, and its disk does not count as
// failed, whatever becomes of that; the next start does what was left.
func TestStartWithATornTailOnAReadOnlyDisk(t *testing.T) {
	for boot, readable := range map[byte]record.Offset{1: 3, 9: 2} {
		inBubble(t, func(t *testing.T, e *env) {
			e.lead(1, replica.Memory)
			e.acked(batch("a", 1))
			e.acked(batch("b", 1))
			e.p.SyncInBackground()
			synctest.Wait()
			if err := e.p.SyncCheckpoint(); err != nil {
				t.Fatal(err)
			}
			e.acked(batch("c", 1))
			next := e.on(e.mem.Clone())
			next.bootID = [16]byte{boot}
			name := logDir + "/" + segment.Name(0, segment.LogSuffix)
			whole, err := storagetest.ReadFile(next.mem, name)
			if err != nil {
				t.Fatal(err)
			}
			if err := storagetest.Overwrite(next.mem, name, []byte("torn"), int64(len(whole))); err != nil {
				t.Fatal(err)
			}
			next.fs.SetReadOnly(true)
			next.lead(2, replica.Memory)
			defer func() {
				_ = next.p.Close()
				next.flusher.running.Wait()
			}()
			synctest.Wait()
			for range 3 {
				if s := next.p.State(); s.HighWatermark != readable || s.End != 3 || s.Offline != nil || !s.Leading {
					t.Fatalf("%+v, readable should be %d", s, readable)
				}
				next.wantLog([]string{"a#0", "b#0", "c#0"}[:readable]...)
				r := next.send(&answers{}, batch("d", 1))
				synctest.Wait()
				if refused := wantError[*commitlog.WriteError](t, r.Err); refused.Kind != commitlog.ReadOnly || errors.Is(r.Err, ErrUnknownOutcome) {
					t.Fatalf("%v", r.Err)
				}
				next.p.SyncInBackground()
				pass(3 * time.Second)
				next.fs.SetReadOnly(false)
			}
			if len(next.seen.failed) > 0 {
				t.Errorf("the log is said to have failed: %v", next.seen.failed)
			}
			last := e.on(next.mem.Clone())
			last.lead(3, replica.Memory)
			synctest.Wait()
			last.wantLog("a#0", "b#0", "c#0")
			if r := last.acked(batch("e", 1)); r.Base != 3 || !last.rec.TailCut {
				t.Errorf("appended at %d, %+v", r.Base, last.rec)
			}
			_ = last.p.Close()
			last.flusher.running.Wait()
		})
	}
}
