package broker

import (
	"testing"
	"testing/synctest"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// fakePeers loses brokers when it is told to.
type fakePeers struct {
	noPeers
	wake chan struct{}
	lost []*controllerv1.UnreachableBroker
}

func (f *fakePeers) Lost() <-chan struct{} { return f.wake }

func (f *fakePeers) Unreachable() []*controllerv1.UnreachableBroker {
	lost := f.lost
	f.lost = nil
	return lost
}

func (f *fakePeers) lose(id int32, epoch int64) {
	f.lost = append(f.lost, &controllerv1.UnreachableBroker{BrokerId: id, BrokerEpoch: epoch})
	f.wake <- struct{}{}
	synctest.Wait()
}

// A broker that cannot reach another tells the controller at once, and tells it
// until it is heard.
func TestLostBrokersAreToldAtOnceAndUntilHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		peers := &fakePeers{wake: make(chan struct{})}
		e.opts.Peers = peers
		e.start()
		told := func() []*controllerv1.UnreachableBroker {
			e.cluster.mu.Lock()
			defer e.cluster.mu.Unlock()
			return e.cluster.beats[len(e.cluster.beats)-1].GetUnreachableBrokers()
		}
		if got := told(); len(got) != 0 {
			t.Fatalf("told of %v before anybody was lost", got)
		}
		peers.lose(2, 20)
		if got := told(); len(got) != 1 || got[0].GetBrokerId() != 2 || got[0].GetBrokerEpoch() != 20 {
			t.Fatalf("told of %v, want broker 2 in epoch 20", got)
		}
		e.cluster.setDown(true)
		peers.lose(3, 30)
		peers.lose(2, 21)
		peers.lose(2, 22)
		e.cluster.setDown(false)
		e.b.beatNow()
		synctest.Wait()
		if got := told(); len(got) != 2 || got[0].GetBrokerId() != 3 || got[1].GetBrokerEpoch() != 22 {
			t.Fatalf("told of %v, want broker 3 and the last of broker 2", got)
		}
		e.b.beatNow()
		synctest.Wait()
		if got := told(); len(got) != 0 {
			t.Errorf("told of %v again", got)
		}
		if err := e.halt(); err != nil {
			t.Error(err)
		}
	})
}
