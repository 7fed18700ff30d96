package record

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// wireGenerator makes messages that look like a RecordBatch: mostly with the
// right fields and wire types, and a flipped bit here and there. Unlike the
// fuzzer's, much of what it makes is accepted.
type wireGenerator struct{ *rand.Rand }

// The wire type of fields 1 to 4 of a RecordBatch, a Record and a Header.
var wireTypes = [3][5]protowire.Type{
	{1: protowire.BytesType, 2: protowire.VarintType, 3: protowire.BytesType, 4: protowire.VarintType},
	{1: protowire.BytesType, 2: protowire.BytesType, 3: protowire.BytesType, 4: protowire.VarintType},
	{1: protowire.BytesType, 2: protowire.BytesType, 3: protowire.BytesType, 4: protowire.BytesType},
}

func (g wireGenerator) oneIn(n int) bool { return g.IntN(n) == 0 }

// message makes a RecordBatch (depth 0), a Record (1) or a Header (2).
func (g wireGenerator) message(depth int) []byte {
	var b []byte
	for range 1 + g.IntN(6) {
		num, typ := g.field(depth)
		b = protowire.AppendTag(b, num, typ)
		switch typ {
		case protowire.VarintType:
			x := g.Uint64() >> g.IntN(64)
			if depth == 0 {
				x %= 8
			}
			b = protowire.AppendVarint(b, x)
		case protowire.Fixed64Type:
			b = protowire.AppendFixed64(b, g.Uint64())
		case protowire.Fixed32Type:
			b = protowire.AppendFixed32(b, g.Uint32())
		default:
			b = protowire.AppendBytes(b, g.content(depth, num))
		}
		if g.oneIn(60) {
			b[g.IntN(len(b))] ^= 1 << g.IntN(8)
		}
	}
	return b
}

func (g wireGenerator) field(depth int) (protowire.Number, protowire.Type) {
	if g.oneIn(4) {
		numbers := []protowire.Number{1000, 1001, 5000, 19_000, protowire.MaxValidNumber}
		types := []protowire.Type{protowire.VarintType, protowire.Fixed64Type, protowire.BytesType, protowire.Fixed32Type}
		return numbers[g.IntN(len(numbers))], types[g.IntN(len(types))]
	}
	num := protowire.Number(1)
	switch {
	case depth == 1:
		num = protowire.Number(1 + g.IntN(4))
	case depth == 2:
		num = protowire.Number(1 + g.IntN(2))
	case g.oneIn(6):
		num = protowire.Number(2 + g.IntN(3))
	}
	return num, wireTypes[depth][num]
}

func (g wireGenerator) content(depth int, num protowire.Number) []byte {
	if (depth == 0 && num == 1) || (depth == 1 && num == 3) {
		return g.message(depth + 1)
	}
	b := make([]byte, g.IntN(20))
	for i := range b {
		b[i] = byte(g.Uint32())
		if depth == 2 && num == 1 && !g.oneIn(20) {
			b[i] &= 0x7f
		}
	}
	return b
}

// TestRandomBatches is FuzzValidate with messages of wireGenerator.
func TestRandomBatches(t *testing.T) {
	g := wireGenerator{rand.New(rand.NewPCG(7, 8))}
	accepted := 0
	for range 5000 {
		b := g.message(0)
		checkVerdict(t, b, g.IntN(9))
		var v Validator
		if _, err := v.Validate(Pieces{b}, Limits{}); err == nil {
			accepted++
		}
	}
	if accepted < 250 {
		t.Fatalf("only %d of the messages are accepted: the generator tests nothing", accepted)
	}
}
