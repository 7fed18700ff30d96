//go:build !mutants

package replica

// mutation is constant here: the compiler leaves out what depends on it.
const mutation = Intact
