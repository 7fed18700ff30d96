package millstream_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

// clientOf returns a client that knows all brokers of a cluster.
func clientOf(t *testing.T, c *servertest.Cluster) *millstream.Client {
	t.Helper()
	var all []string
	for _, m := range c.Members {
		all = append(all, m.Address())
	}
	client, err := millstream.New(millstream.Options{
		Addr: strings.Join(all, ","), DialOptions: []grpc.DialOption{grpc.WithContextDialer(c.DialPublic)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// leader returns who leads the partition of the topic, as a member that runs
// has it, once all replicas are in sync.
func leader(t *testing.T, c *servertest.Cluster) *servertest.Member {
	t.Helper()
	s, err := c.Members[0].Metadata.WaitFor(inTime(t), func(s *metadata.Snapshot) bool {
		topic := s.TopicByName("t")
		return topic != nil && topic.Partitions[0].Leader >= 1 && len(topic.Partitions[0].ISR) == len(c.Members)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c.Members[s.TopicByName("t").Partitions[0].Leader-1]
}

// Whoever leads, and whoever the client is connected to, is killed: what was
// acknowledged is read once and in order, and what was not either failed with
// an unknown outcome or is not there.
func TestAProducerAndAReaderOutliveTheBrokersTheyTalkTo(t *testing.T) {
	for name, end := range map[string]func(*servertest.Member){"killed": (*servertest.Member).Kill, "stopped": (*servertest.Member).Stop} {
		t.Run(name, func(t *testing.T) {
			c := servertest.StartCluster(t, servertest.ClusterOptions{})
			if _, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "t", PartitionCount: 1, ReplicationFactor: 3}); err != nil {
				t.Fatal(err)
			}
			outlive(t, c, end)
		})
	}
}

func outlive(t *testing.T, c *servertest.Cluster, end func(*servertest.Member)) {
	t.Helper()
	const last = "last"
	client := clientOf(t, c)
	r, err := client.NewReader(t.Context(), millstream.ReaderOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	type delivered struct {
		values []string
		err    error
	}
	reading := make(chan delivered, 1)
	go func() {
		var got delivered
		for record, err := range r.Records(t.Context()) {
			if got.err = err; err != nil {
				break
			}
			if record.Offset != int64(len(got.values)) {
				got.err = fmt.Errorf("offset %d after %d records", record.Offset, len(got.values))
				break
			}
			got.values = append(got.values, string(record.Value))
			if string(record.Value) == last {
				break
			}
		}
		reading <- got
	}()

	p, err := client.NewProducer(t.Context(), millstream.ProducerOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	sent, acked := 0, make(map[string]bool)
	unknown := make(map[string]bool)
	// write hands records over, as many at once as are enough to have some in
	// flight, and returns when all are settled. meanwhile runs beside them.
	write := func(n int, meanwhile func()) {
		t.Helper()
		var all []millstream.Pending
		first := sent
		for ; sent < first+n; sent++ {
			if sent == first+n/2 && meanwhile != nil {
				meanwhile()
			}
			pending, err := p.Append(inTime(t), millstream.Record{Value: value(sent)})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pending)
		}
		for i, pending := range all {
			_, err := pending.Wait(inTime(t))
			_, lost := errors.AsType[*millstream.UnknownOutcomeError](err)
			switch v := string(value(first + i)); {
			case err == nil:
				acked[v] = true
			case lost:
				unknown[v] = true
			default:
				t.Fatalf("record %s: %v", v, err)
			}
		}
	}
	for range 3 {
		gone := leader(t, c)
		write(2000, func() { end(gone) })
		gone.Start()
	}
	// A record whose outcome is known ends it.
	for begun := time.Now(); ; {
		if _, err := p.AppendSync(inTime(t), millstream.Record{Value: []byte(last)}); err == nil {
			break
		} else if time.Since(begun) > 20*time.Second {
			t.Fatal(err)
		}
	}
	got := <-reading
	if got.err != nil {
		t.Fatal(got.err)
	}
	values := got.values[:len(got.values)-1]
	if !slices.IsSorted(values) || len(slices.Compact(slices.Clone(values))) != len(values) {
		t.Error("records were read twice or out of order")
	}
	for _, v := range values {
		if !acked[v] && !unknown[v] {
			t.Errorf("%s was read, and was never written", v)
		}
		delete(acked, v)
	}
	if len(acked) > 0 {
		t.Errorf("%d acknowledged records were not read", len(acked))
	}
	_ = p.Close(inTime(t)) // says what had an unknown outcome, as Wait has
	r.Close()
	if len(unknown) > 0 {
		t.Logf("%d of %d records had an unknown outcome", len(unknown), sent)
	}
}

func TestAnAddressThatIsNoneIsNamed(t *testing.T) {
	for _, addr := range []string{"a:1,b", "a:1,", ",a:1", "a:1,:2"} {
		_, err := millstream.New(millstream.Options{Addr: addr})
		if bad, ok := errors.AsType[*millstream.InvalidAddressError](err); !ok || bad.Addr != addr {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
