package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/partition"
)

// takeOver is another process of the broker's number that registers, on a copy of
// its directory, and leads what it led, while the broker counts as dead. It is
// alive from then on.
func (c *cluster) takeOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch += 100
	c.doubled = true
	changes := []*controllerv1.MetadataChange{{Change: &controllerv1.MetadataChange_Broker{
		Broker: &controllerv1.BrokerRecord{BrokerId: 1, BrokerEpoch: c.epoch, Address: "there:1", DirectoryId: c.directory},
	}}}
	for id, t := range c.topics {
		changes = append(changes, c.partitions(id, t)...)
	}
	c.publishLocked(false, changes...)
}

// A broker was asleep, and another process has its number by now. What the
// metadata says of that number is not said of it: it leads nothing, and when it
// finds that the other one is alive it gives up.
func TestWhatIsSaidOfAnotherProcessOfTheNumberIsNotCarriedOut(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		e.mustProduce("flights", 0, "a")
		p, _, err := e.b.Partition("flights", 0)
		if err != nil {
			t.Fatal(err)
		}
		e.cluster.takeOver()
		synctest.Wait()
		if r, err := e.produce("flights", 0, "b"); err == nil {
			t.Fatalf("two lead in epoch %d, and this one has acknowledged a record", r.Epoch)
		} else {
			mustBe[*partition.NotLeaderError](t, err)
		}
		if _, err := p.NewReader().Read(0, 1<<20, func(n int) []byte { return make([]byte, n) }); err == nil {
			t.Error("it is read here")
		} else {
			mustBe[*partition.NotLeaderError](t, err)
		}
		// A topic that it has never seen is not its either.
		e.cluster.create(2, "later", 1, nil)
		if _, err := e.produce("later", 0, "x"); err == nil {
			t.Error("it leads what was made since")
		}
		pass(aliveFor + 5*time.Second)
		synctest.Wait()
		select {
		case err := <-e.ended:
			if status.Code(err) != codes.AlreadyExists {
				t.Fatal(err)
			}
		default:
			t.Fatal("it goes on, beside another of its number")
		}
		e.stop()
		e.stop = nil
	})
}

// The other one has died: then the first registers again, and leads in an epoch
// that neither has led in.
func TestABrokerThatWasReplacedMayComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		e.mustProduce("flights", 0, "a")
		e.cluster.takeOver()
		synctest.Wait()
		if _, err := e.produce("flights", 0, "b"); err == nil {
			t.Fatal("two lead")
		}
		e.cluster.setDoubled(false)
		pass(2 * time.Second)
		synctest.Wait()
		if r := e.mustProduce("flights", 0, "c"); r.Base != 1 || r.Epoch != 3 {
			t.Fatalf("%+v", r)
		}
	})
}
