package ceiling

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"google.golang.org/grpc/mem"
)

// headBytes is what a message begins with: its number from 0, and the CRC-32C of
// the bytes behind. All of it stands in the files.
const headBytes = 8 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// message passes through gRPC as it is. It is an rpc.RawMarshaler and
// rpc.RawUnmarshaler.
type message struct{ bytes mem.BufferSlice }

// MarshalRaw hands the bytes over, with one reference.
func (m *message) MarshalRaw() (mem.BufferSlice, error) { return m.bytes, nil }

// UnmarshalRaw keeps the bytes, which whoever receives them frees.
func (m *message) UnmarshalRaw(b mem.BufferSlice) error {
	b.Ref()
	m.bytes = b
	return nil
}

// endOf returns the message that says where a file ends: an answer to the
// client, or to the leader.
func endOf(end int64) *message {
	return &message{mem.BufferSlice{mem.SliceBuffer(binary.LittleEndian.AppendUint64(nil, uint64(end)))}}
}

// takeEnd reads such a message and frees it.
func takeEnd(m *message) (int64, error) {
	defer m.bytes.Free()
	if n := m.bytes.Len(); n != 8 {
		return 0, fmt.Errorf("an answer has %d bytes", n)
	}
	var b [8]byte
	m.bytes.CopyTo(b[:])
	return int64(binary.LittleEndian.Uint64(b[:])), nil
}

// inspector checks messages in order. It is for one goroutine.
type inspector struct {
	size   int
	next   uint64   // the number that comes next
	pieces [][]byte // of the message that was checked last
}

// check returns the bytes of a message if they are what is expected. BORROWED:
// until the message is freed, or the next one checked.
func (i *inspector) check(m *message) ([][]byte, error) {
	clear(i.pieces)
	i.pieces = i.pieces[:0]
	n := 0
	for _, b := range m.bytes {
		piece := b.ReadOnlyData()
		i.pieces = append(i.pieces, piece)
		n += len(piece)
	}
	if n != i.size {
		return nil, fmt.Errorf("message %d has %d bytes, not %d", i.next, n, i.size)
	}
	var head [headBytes]byte
	skip := m.bytes.CopyTo(head[:])
	crc := uint32(0)
	for _, piece := range i.pieces {
		from := min(skip, len(piece))
		skip -= from
		crc = crc32.Update(crc, castagnoli, piece[from:])
	}
	number, want := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint32(head[8:])
	switch {
	case number != i.next:
		return nil, fmt.Errorf("message %d comes where %d should", number, i.next)
	case crc != want:
		return nil, fmt.Errorf("the checksum of message %d is %08x, not %08x", number, crc, want)
	}
	i.next++
	return i.pieces, nil
}

// bodies is how many different bodies there are: enough that one message in the
// place of another is seen.
const bodies = 16

// load is what a client sends.
type load struct {
	bodies [bodies][]byte
	crcs   [bodies]uint32
}

func newLoad(size int) *load {
	l := &load{}
	random := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range l.bodies {
		b := make([]byte, 0, size-headBytes+8)
		for len(b) < size-headBytes {
			b = binary.LittleEndian.AppendUint64(b, random.Uint64())
		}
		l.bodies[i] = b[:size-headBytes]
		l.crcs[i] = crc32.Checksum(l.bodies[i], castagnoli)
	}
	return l
}

// at returns the head and the body of message n.
func (l *load) at(n int) (head, body []byte) {
	head = binary.LittleEndian.AppendUint64(make([]byte, 0, headBytes), uint64(n))
	head = binary.LittleEndian.AppendUint32(head, l.crcs[n%bodies])
	return head, l.bodies[n%bodies]
}

// message returns message n.
func (l *load) message(n int) *message {
	head, body := l.at(n)
	return &message{mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(body)}}
}

// digest is what a file has: so many bytes with that CRC-32C.
type digest struct {
	length int64
	crc    uint32
}

func (d *digest) add(b []byte) {
	d.length += int64(len(b))
	d.crc = crc32.Update(d.crc, castagnoli, b)
}

// digest returns that of the first n messages.
func (l *load) digest(n int) (d digest) {
	for i := range n {
		head, body := l.at(i)
		d.add(head)
		d.add(body)
	}
	return d
}
