//go:build mutants

package replica

var mutation = Intact

// Mutate puts a mistake into all replicas of this process, for the tests that
// show that it would be found. Only builds with the tag mutants have it.
//
// REQUIRES: nothing else is running.
func Mutate(m Mutation) { mutation = m }
