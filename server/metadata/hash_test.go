package metadata

import (
	"testing"
	"testing/synctest"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/server/metahash"
)

// hashedFrame is one that says what all comes to.
func hashedFrame(f *controllerv1.WatchMetadataResponse, value uint64) *controllerv1.WatchMetadataResponse {
	f.Hash = &controllerv1.MetadataHash{Form: metahash.Form, Value: value}
	return f
}

// What differs from the controller's is asked for anew and in full, but not again
// and again.
func TestWhatDiffersIsAskedForInFull(t *testing.T) {
	following(t, 1, func(t *testing.T, m *Mirror, cs []*watched) {
		c := cs[0]
		all := func() *controllerv1.WatchMetadataResponse {
			return snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 7, 1, 3))
		}
		c.next(t)
		c.frames <- all()
		synctest.Wait()
		if n := m.Received(); n != uint64(proto.Size(all())) {
			t.Errorf("%d bytes came, and counted are %d", proto.Size(all()), n)
		}
		right := m.Current().hash()
		c.frames <- hashedFrame(delta(5), right)
		synctest.Wait()
		if len(c.asked) != 0 || m.Differed() != 0 {
			t.Fatalf("what is alike differs %d times", m.Differed())
		}
		// A number of another form says nothing.
		f := hashedFrame(delta(5), right+1)
		f.Hash.Form++
		c.frames <- f
		synctest.Wait()
		if len(c.asked) != 0 || m.Differed() != 0 {
			t.Fatalf("what cannot be compared differs %d times", m.Differed())
		}
		// The controller has lost or gained something at the same revision.
		c.frames <- hashedFrame(delta(5), right+1)
		if r := c.next(t); r.GetRevision() != 0 {
			t.Errorf("what differs is asked for as %v", r)
		}
		c.frames <- hashedFrame(all(), right+1)
		c.frames <- hashedFrame(delta(5), right+1)
		synctest.Wait()
		if len(c.asked) != 0 || m.Differed() != 3 {
			t.Errorf("what differs still is asked for again; it differs %d times", m.Differed())
		}
		for range int(resyncPause/time.Second) + 1 { // confirmations keep the watch alive
			<-time.After(time.Second)
			c.frames <- delta(5)
		}
		c.frames <- hashedFrame(delta(5), right+1)
		if r := c.next(t); r.GetRevision() != 0 {
			t.Errorf("what differs later is asked for as %v", r)
		}
	})
}

func TestWhatIsKeptDecides(t *testing.T) {
	seen := map[uint64]string{}
	for name, f := range map[string]*controllerv1.WatchMetadataResponse{
		"nothing":           snapshotOf(5),
		"a topic":           snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 7, 1, 3)),
		"another leader":    snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 8, 1, 3)),
		"another revision":  snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 7, 1, 4)),
		"another partition": snapshotOf(5, topicChange(1, "a", 2, 3), partitionChange(1, 0, 7, 1, 3), partitionChange(1, 1, 7, 1, 3)),
	} {
		m := New(Options{Controllers: []controllerv1.ControllerServiceClient{nil}})
		if err := m.Apply(f); err != nil {
			t.Fatal(name, err)
		}
		h := m.Current().hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%s is like %s", name, other)
		}
		seen[h] = name
	}
}
