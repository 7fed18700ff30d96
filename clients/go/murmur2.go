package millstream

import "encoding/binary"

// partitionForKey returns the partition of a key among n: murmur2, as Apache
// Kafka's Java client does, so that keys keep their partitions.
func partitionForKey(key []byte, n uint32) uint32 { return (murmur2(key) & 0x7fffffff) % n }

// murmur2 is the 32-bit MurmurHash2 with the seed of Kafka's Java client.
func murmur2(b []byte) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
		r           = 24
	)
	h := seed ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
