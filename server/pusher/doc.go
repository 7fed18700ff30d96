// Package pusher owns the streams on which other brokers follow this one: the
// service millstream.replication.v1.ReplicationService.
//
// It refuses to own what is sent to whom and what is committed
// (server/partition, server/replica), and which partitions there are.
//
// INVARIANT: a second stream of the same broker and lane ends the first, with
// all its sessions, before it is read.
// INVARIANT: what waits to be sent is bounded by the number of sessions: each
// has at most one answer, one end and one offer under way. Batches are read
// when their turn comes.
//
// Goroutines: each stream has its handler, one that receives and one that
// sends (rule T1); all end with the stream.
package pusher
