package ceiling

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc/mem"
)

// cut returns bytes as a message in pieces of the sizes, the last of which is
// used for all that is left.
func cut(b []byte, sizes ...int) *message {
	m := &message{}
	for i := 0; len(b) > 0; i++ {
		n := min(sizes[min(i, len(sizes)-1)], len(b))
		m.bytes = append(m.bytes, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return m
}

func TestInspector(t *testing.T) {
	const size = 1000
	l := newLoad(size)
	whole := func(n int) []byte { return l.message(n).bytes.Materialize() }
	in := inspector{size: size}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 3 * bodies {
		m := cut(whole(n), 1+random.IntN(20), 1+random.IntN(20), 1+random.IntN(size))
		pieces, err := in.check(m)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.Join(pieces, nil), whole(n)) {
			t.Fatalf("the pieces of message %d are not it", n)
		}
	}
	next := 3 * bodies
	for name, b := range map[string][]byte{
		"the one before": whole(next - 1),
		"the one after":  whole(next + 1),
		"too short":      whole(next)[:size-1],
		"too long":       append(whole(next), 0),
		"empty":          nil,
	} {
		if _, err := in.check(cut(b, 100)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for bit := range size * 8 {
		b := whole(next)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := in.check(cut(b, 7, 300)); err == nil {
			t.Fatalf("bit %d was wrong, and the message was taken", bit)
		}
	}
	if _, err := in.check(cut(whole(next), 7, 300)); err != nil {
		t.Error(err)
	}
}

// A file tells which messages are in it, and in which order.
func TestDigest(t *testing.T) {
	l := newLoad(50)
	of := func(numbers ...int) (d digest) {
		for _, n := range numbers {
			d.add(l.message(n).bytes.Materialize())
		}
		return d
	}
	if got, want := of(0, 1, 2), l.digest(3); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	for _, wrong := range []digest{of(), of(0, 1), of(0, 2, 1), of(0, 1, 2, 3), of(0, 1, 2+bodies), of(bodies, 1, 2)} {
		if wrong == l.digest(3) {
			t.Errorf("%v is taken for the right one", wrong)
		}
	}
}

func TestProgress(t *testing.T) {
	type step struct{ who, end int }
	for name, c := range map[string]struct {
		followers, need       int
		steps                 []step // who is 0 for the leader
		committed, everywhere int64
	}{
		"nothing yet":                 {2, 2, nil, 0, 0},
		"alone":                       {0, 0, []step{{0, 5}}, 5, 5},
		"the leader alone has it":     {2, 2, []step{{0, 5}}, 0, 0},
		"one of two":                  {2, 2, []step{{0, 5}, {2, 5}}, 0, 0},
		"one of two is enough":        {2, 1, []step{{0, 5}, {2, 5}}, 5, 0},
		"the other one too":           {2, 1, []step{{0, 5}, {1, 4}, {2, 3}}, 4, 3},
		"all":                         {2, 2, []step{{0, 5}, {1, 4}, {2, 3}}, 3, 3},
		"not before the leader":       {2, 1, []step{{0, 2}, {1, 4}, {2, 3}}, 2, 2},
		"the second of three":         {3, 2, []step{{0, 9}, {1, 7}, {2, 1}, {3, 5}}, 5, 1},
		"nobody has to be waited for": {2, 0, []step{{0, 5}, {1, 1}, {2, 3}}, 5, 1},
	} {
		p := newProgress(c.followers, c.need)
		for _, s := range c.steps {
			if s.who == 0 {
				p.own(int64(s.end))
			} else {
				p.follower(s.who-1, int64(s.end))
			}
		}
		if committed, everywhere := p.committed(); committed != c.committed || everywhere != c.everywhere {
			t.Errorf("%s: %d committed, %d everywhere", name, committed, everywhere)
		}
	}
}
