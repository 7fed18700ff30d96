package partition

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// A broker that was killed comes back, and leads before it has said what can
// be read. Who asks for the end meanwhile waits, and is never told of a log
// that is shorter than one it has seen.
func TestTheEndIsAwaitedAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		e.acked(batch("a", 3))

		again := newEnv(t).on(e.mem.Clone())
		again.openOn(again.fs)
		defer func() { _ = again.p.Close() }() // the end of the story
		published := make(chan struct{})
		again.fs.Add(&faultfs.Rule{Op: faultfs.Write, Path: "checkpoint", Times: -1, Hold: func(faultfs.Op, string) { <-published }})
		go again.p.Lead(alone(2, replica.Disk))
		synctest.Wait()
		if s := again.p.State(); !s.Leading || s.End != 3 || s.HighWatermark != 0 {
			t.Fatalf("leading %v, the log ends at %d, readable to %d: nothing to wait for", s.Leading, s.End, s.HighWatermark)
		}
		gaveUp, cancel := context.WithCancel(t.Context())
		cancel()
		if unknown := wantError[*EndUnknownError](t, again.p.AwaitEnd(gaveUp)); unknown.Readable != 0 || unknown.Elected != 3 {
			t.Fatalf("%+v", unknown)
		}
		known := make(chan error, 1)
		go func() { known <- again.p.AwaitEnd(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-known:
			t.Fatalf("the end is known before it is published: %v", err)
		default:
		}
		close(published)
		if err := <-known; err != nil {
			t.Fatal(err)
		}
		if s := again.p.State(); s.HighWatermark != 3 {
			t.Fatalf("readable to %d", s.HighWatermark)
		}
	})
}

func TestTheEndOfWhatIsNotLedIsNotAwaited(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.openOn(e.fs)
		mustBe[*NotLeaderError](t, e.p.AwaitEnd(t.Context()))
		if !e.p.Lead(alone(1, replica.Disk)) {
			t.Fatal("does not lead")
		}
		if err := e.p.AwaitEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := e.p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := e.p.AwaitEnd(t.Context()); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	})
}
