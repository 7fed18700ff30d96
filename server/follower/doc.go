// Package follower owns the streams on which this broker follows others: for
// each broker that leads something of which this one holds a replica, one for
// replicas near the end of the log, and one for those far behind (rule P2).
//
// It refuses to own what a replica does with what comes (server/partition),
// who is followed (the metadata says, the broker carries it out), and
// connections.
//
// INVARIANT: what is said of a partition is said by its owner, in order, on one
// stream at a time; a session of another stream is dropped by its number.
// INVARIANT: the receiving goroutine of a stream waits for nothing but the
// local logs, and only while they hold more than heldBytes that are not
// written.
//
// Goroutines: for each leader that has anything, two for each of its two
// streams, which end with the last partition or with Run; one looks after
// sessions that are to be opened again.
package follower
