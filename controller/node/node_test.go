package node_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSmoke(t *testing.T) {
	start := time.Now()
	c := controllertest.Start(t)
	t.Logf("ready after %v", time.Since(start))
	start = time.Now()
	controllertest.StartBroker(t, c.Client, 1)
	t.Logf("broker after %v", time.Since(start))
	for _, n := range []uint32{1, 5000} {
		start = time.Now()
		resp, err := c.Client.CreateTopic(t.Context(), &controllerv1.CreateTopicRequest{Topic: "t" + string(rune('a'+n%26)), PartitionCount: n})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d partitions after %v at %d", n, time.Since(start), resp.GetRevision())
	}
}
