package millstream_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient returns a client of a server, closed when the test ends.
func newClient(t testing.TB, s *faketest.Server) *millstream.Client {
	t.Helper()
	c, err := millstream.New(millstream.Options{Addr: faketest.Addr, DialOptions: []grpc.DialOption{s.Dialer()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newProducer(t testing.TB, s *faketest.Server, o millstream.ProducerOptions) *millstream.Producer {
	t.Helper()
	o.Topic = "t"
	p, err := newClient(t, s).NewProducer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newReader(t testing.TB, s *faketest.Server, o millstream.ReaderOptions) *millstream.Reader {
	t.Helper()
	o.Topic = "t"
	r, err := newClient(t, s).NewReader(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// inTime returns a context that ends long after the test should have.
func inTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// value returns the i-th value of a test.
func value(i int) []byte { return fmt.Appendf(nil, "v%05d", i) }

// values returns the values that a partition holds.
func values(l *faketest.Log) []string {
	var all []string
	for _, r := range l.Records() {
		all = append(all, string(r.GetValue()))
	}
	return all
}

// wantValues fails unless the partition holds values [0, n) in order, but
// those left out.
func wantValues(t *testing.T, l *faketest.Log, n int, leftOut ...int) {
	t.Helper()
	var want []string
	for i := range n {
		skip := false
		for _, o := range leftOut {
			skip = skip || o == i
		}
		if !skip {
			want = append(want, string(value(i)))
		}
	}
	got := values(l)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("the partition ends after %d records, want %d", len(got), len(want))
		case i >= len(want):
			t.Fatalf("the partition has %d records, want %d; the first more is %s", len(got), len(want), got[i])
		case got[i] != want[i]:
			t.Fatalf("record %d is %s, want %s", i, got[i], want[i])
		}
	}
}

func batchOf(values ...string) *pb.RecordBatch {
	b := &pb.RecordBatch{}
	for _, v := range values {
		b.Records = append(b.Records, &pb.Record{Value: []byte(v)})
	}
	return b
}
