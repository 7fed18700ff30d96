package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/image"
)

const (
	// suspectsKept bounds the brokers that wait to be tried; more are dropped:
	// they are reported again.
	suspectsKept = 64
	probeTimeout = 500 * time.Millisecond
)

// suspect is an incarnation of a broker that another broker cannot reach.
type suspect struct {
	id    int32
	epoch int64
}

// suspect has brokers tried. It never waits.
func (l *Loop) suspect(brokers []*controllerv1.UnreachableBroker) {
	for _, b := range brokers {
		select {
		case l.suspects <- suspect{b.GetBrokerId(), b.GetBrokerEpoch()}:
		default:
			return
		}
	}
}

// probe tries to reach suspects, one after the other, until ctx ends. One whose
// port refuses connections has no process any more, and is silent from now on:
// waiting out its session would only cost time. Anything else says nothing,
// since it may be the network.
func (l *Loop) probe(ctx context.Context) {
	for {
		var s suspect
		select {
		case s = <-l.suspects:
		case <-ctx.Done():
			return
		}
		addr := l.addressOf(s)
		if addr == "" {
			continue
		}
		try, cancel := context.WithTimeout(ctx, probeTimeout)
		err := l.o.Probe(try, addr)
		cancel()
		if !errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		l.o.Logger.WarnContext(ctx, "broker refuses connections", slog.Int("broker_id", int(s.id)), slog.String("address", addr))
		l.sessions.lose(s.id, s.epoch)
		if err := l.do(ctx, func(ctx context.Context, a *active) error { return a.settle(ctx) }); err != nil {
			l.o.Logger.DebugContext(ctx, "silent brokers not fenced yet", slog.Any("err", err))
		}
	}
}

// addressOf returns where other brokers reach a suspect; empty: it is fenced
// already, or another incarnation by now.
func (l *Loop) addressOf(s suspect) string {
	var addr string
	l.o.Image.Read(func(v *image.View) {
		if b := v.Brokers[s.id].Record; b.GetBrokerEpoch() == s.epoch && !b.GetFenced() {
			addr = b.GetInternalAddress()
		}
	})
	return addr
}

func dial(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
