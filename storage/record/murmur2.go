package record

import (
	"encoding/binary"
)

// Murmur2 is the hash with which Apache Kafka's Java client chooses a
// partition: the 32-bit MurmurHash2 of Austin Appleby with Kafka's seed. The
// Java client takes it as signed; the bits are the same.
func Murmur2(key []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(key))
	for len(key) >= 4 {
		k := binary.LittleEndian.Uint32(key) * m
		k ^= k >> r
		h = h*m ^ k*m
		key = key[4:]
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2])<<16 | uint32(key[1])<<8 | uint32(key[0])
		h *= m
	case 2:
		h ^= uint32(key[1])<<8 | uint32(key[0])
		h *= m
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// PartitionForKey returns the partition, of n, of the records with this key,
// as Apache Kafka's Java client chooses it, so that keys keep their partition
// when people migrate. An empty key is a key; records without one are the
// caller's to spread.
//
// REQUIRES: n > 0.
func PartitionForKey(key []byte, n uint32) PartitionID {
	return PartitionID((Murmur2(key) & 0x7fffffff) % n)
}
