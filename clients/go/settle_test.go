package millstream

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/millstream-io/millstream/clients/go/internal/transport"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// What was sent behind a request that was refused is refused too, until a restart:
// when the stream ends before that is said, it surely was not written either.
func TestWhatWasSentBehindARefusalIsSentAgain(t *testing.T) {
	for name, final := range map[string]bool{"it may be repeated": false, "its outcome is unknown": true} {
		t.Run(name, func(t *testing.T) {
			var q buffer
			own := newRoute("")
			o := ProducerOptions{Topic: "t", RetryFor: time.Hour, Linger: time.Hour}.withDefaults()
			q.init(new(transport.Pool), &o, 1, own, 0)
			l := &q.lanes[0]
			var all []*batch
			for range 3 {
				q.begin(l, smallestBatch, 1)
				all = append(all, l.open)
				q.seal(l)
				if b, _, _ := q.take(own); b != all[len(all)-1] {
					t.Fatal("it is not sent")
				}
			}
			said := &Error{Code: codes.Unavailable, Reason: pb.ErrorReason_ERROR_REASON_NOT_LEADER, Retryable: true}
			if final {
				said = &Error{Code: codes.Unknown, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME}
			}
			if _, err := q.refuse(all[0].id, 0, said); err != nil {
				t.Fatal(err)
			}
			q.lose(own, nil, &Error{Code: codes.Unavailable})
			waiting := l.queue.all()
			for i, b := range all {
				_, unknown := errors.AsType[*UnknownOutcomeError](b.out.err)
				if unknown != final || !final && (len(waiting) != 3 || waiting[i] != b) {
					t.Errorf("batch %d: %v, and %d are sent again", i, b.out.err, len(waiting))
				}
			}
		})
	}
}

// A partition that waits before it is sent again, and whose leader's stream ends
// meanwhile, is sent on the client's own connection: whose sender may sleep, as it
// had nothing to do.
func TestARestDoesNotEndWithTheRouteOfALeader(t *testing.T) {
	var q buffer
	own, direct := newRoute(""), newRoute("leader:1")
	o := ProducerOptions{Topic: "t", RetryFor: time.Hour, Linger: time.Hour}.withDefaults()
	q.init(new(transport.Pool), &o, 1, own, 0)
	l := &q.lanes[0]
	l.route, direct.up = direct, true
	q.routes.direct = map[string]*route{direct.addr: direct}
	q.begin(l, smallestBatch, 1)
	q.seal(l)
	b, _, _ := q.take(direct)
	q.linger = fifo[lingering]{} // which would wake it, an hour later
	if ok, wait := q.hasWork(own); b == nil || ok || wait != 0 {
		t.Fatalf("sent is %v; the own sender has work %v, waits for %v", b, ok, wait)
	}
	if _, err := q.refuse(b.id, 0, &Error{Code: codes.Unavailable, Reason: pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, Retryable: true}); err != nil {
		t.Fatal(err)
	}
	q.lose(direct, nil, nil)
	q.leave(direct)
	select {
	case <-own.wake:
	default:
		t.Fatal("nobody sends it")
	}
	if ok, wait := q.hasWork(own); !ok && wait == 0 {
		t.Error("nobody waits for the end of its rest")
	}
}
