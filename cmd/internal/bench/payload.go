package bench

// payloads are values of one size. Their content is pseudo-random letters, so
// that compression has something and not too much to do.
type payloads [][]byte

// maxPayloads and payloadBytes bound how many different ones there are.
const (
	maxPayloads  = 4096
	payloadBytes = 8 << 20
)

func newPayloads(size int) payloads {
	n := max(1, min(maxPayloads, payloadBytes/size))
	for n&(n-1) != 0 { // a power of two, for at
		n &= n - 1
	}
	all := make(payloads, n)
	seed := uint64(0x9e3779b97f4a7c15)
	for i := range all {
		all[i] = make([]byte, size)
		for j := range all[i] {
			seed ^= seed << 13
			seed ^= seed >> 7
			seed ^= seed << 17
			all[i][j] = 'A' + byte(seed>>32)%26
		}
	}
	return all
}

func (p payloads) at(i int64) []byte { return p[int(i)&(len(p)-1)] }
