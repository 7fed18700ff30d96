package millstream_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/clients/go/internal/alive/alivetest"
)

// What a cut may hold up a client: gRPC's own pings take 40 s.
const cutFor = 10 * time.Second

// A client that can reach a leader no longer, without a word, goes on through
// the broker that was asked. What was in flight has an unknown outcome.
func TestALeaderThatIsCutOffIsGivenUp(t *testing.T) {
	c, leads, asked := ledElsewhere(t)
	var toLeader alivetest.Network
	var direct atomic.Int32
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := c.DialPublic(ctx, addr)
		if err != nil || addr != leads.Address() {
			return conn, err
		}
		direct.Add(1)
		return toLeader.Conn(conn), nil
	}
	p := startProducer(t, asked, false, dial)
	r, err := startClient(t, asked, false, dial).NewReader(inTime(t), millstream.ReaderOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	written, read := int64(0), int64(0)
	both := func(enough func() bool) {
		appendUntil(t, p, &written, enough)
		readTo(t, r, &read, written)
	}
	for direct.Load() < 2 {
		upTo := written + 10
		both(func() bool { return written >= upTo })
	}
	upTo := written + 200 // the connections are used a little after they are there
	both(func() bool { return written >= upTo })

	toLeader.Cut(true)
	begun := time.Now()
	_, err = p.AppendSync(inTime(t), millstream.Record{Value: value(int(written))})
	if _, ok := errors.AsType[*millstream.UnknownOutcomeError](err); !ok {
		t.Errorf("what was in flight: %v", err)
	}
	// It never came to the leader: its place is another's.
	upTo = written + 10
	both(func() bool { return written >= upTo })
	if took := time.Since(begun); took > cutFor {
		t.Errorf("it was held up for %v", took)
	}
}
