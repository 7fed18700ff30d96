package record

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// UpdateCRC returns the CRC-32C of the bytes that crc stands for followed by
// b. The CRC-32C of no bytes is 0.
func UpdateCRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// CRC returns the CRC-32C of the bytes of p.
func (p Pieces) CRC() uint32 {
	crc := uint32(0)
	for _, b := range p {
		crc = crc32.Update(crc, castagnoli, b)
	}
	return crc
}
