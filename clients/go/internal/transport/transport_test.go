package transport

import (
	"testing"

	"google.golang.org/grpc/mem"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func TestRawMessagesPassThroughUntouched(t *testing.T) {
	out := &Outgoing{Bytes: mem.BufferSlice{mem.SliceBuffer("ab"), mem.SliceBuffer("c")}}
	pieces, err := Codec{}.Marshal(out)
	if err != nil || len(pieces) != 2 {
		t.Fatalf("Marshal = %d pieces, %v; want the 2 given", len(pieces), err)
	}
	var in Incoming
	if err := (Codec{}).Unmarshal(pieces, &in); err != nil {
		t.Fatal(err)
	}
	if got := string(in.CopyTo([]byte("x"))); got != "xabc" {
		t.Fatalf("CopyTo gave %q", got)
	}
}

func TestOtherMessagesAreProtobuf(t *testing.T) {
	pieces, err := Codec{}.Marshal(&pb.Topic{Topic: "t", PartitionCount: 3})
	if err != nil {
		t.Fatal(err)
	}
	var back pb.Topic
	if err := (Codec{}).Unmarshal(pieces, &back); err != nil || back.GetPartitionCount() != 3 {
		t.Fatalf("back came %v, %v", &back, err)
	}
	if _, err := (Codec{}).Marshal("not a message"); err == nil {
		t.Fatal("a string was encoded")
	}
}

func TestPoolRoundsUpAndTakesBackOnlyItsOwn(t *testing.T) {
	var p Pool
	for _, c := range []struct{ n, capacity int }{{0, 1 << 10}, {1 << 10, 1 << 10}, {1025, 2048}, {1 << 18, 1 << 18}, {16<<20 + 1, 16<<20 + 1}} {
		b := p.Get(c.n)
		if len(*b) != c.n || cap(*b) != c.capacity || Capacity(c.n) != c.capacity {
			t.Errorf("Get(%d): len %d cap %d, Capacity %d; want %d", c.n, len(*b), cap(*b), Capacity(c.n), c.capacity)
		}
		p.Put(b)
	}
	odd := make([]byte, 3000)
	p.Put(&odd)
	if b := p.Get(2500); cap(*b) == 3000 {
		t.Error("a foreign buffer was pooled")
	}
}
