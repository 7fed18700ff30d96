package partition

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
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
