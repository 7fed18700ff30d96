// Package netns is a network on one machine whose hosts are network namespaces:
// a bridge, a pair of virtual interfaces for each host, and the machine itself
// as one more. What one host sends another can be cut, in one direction or in
// both. It is for tests that need real partitions: Linux, and root.
//
// It owns bridge, interfaces and namespaces. It starts no processes:
// Host.Command says what a command line is to begin with.
//
// A cut is silent. Hosts know each other's hardware addresses from a table of
// their own and never ask for them; while cut, the entry of the other is an
// address that no interface has, so that the bridge carries every frame to
// nobody, and the sender hears nothing, as of a cable that is pulled somewhere
// on the way. (A route that refuses would tell it at once.)
//
// INVARIANT: the bridge is made first and removed last, and says of which
// process it is. So its name claims everything that is named after it, two runs
// on a machine have nothing in common, and what a run has left that was killed
// is found and removed by the next.
package netns
