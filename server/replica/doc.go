// Package replica owns the decisions of a replica of a partition. Leader says
// what is committed (the high watermark), what an acknowledgement may say,
// what is pushed to whom, and which replicas should be in sync. Follower says
// where the own log has to be cut, which pushes continue it, and what is acked.
// Both are pure step functions: an event goes in, effects come out.
//
// It refuses to own bytes, clocks, files, network and goroutines, and it
// allocates only when the set of replicas changes. Whoever owns a Leader and a
// Follower steps them from one goroutine and carries the effects out. A time is
// what passed on a monotonic clock since some moment of the owner's.
//
// Ranges are half-open and every end is exclusive: a high watermark of 10
// means that the offsets below 10 are committed.
//
// INVARIANT: the high watermark never goes back in a leader epoch, and it moves
// only to an offset that every member of the maximal ISR has (at the durability
// asked for), while the committed ISR has at least the effective min ISR.
//
// INVARIANT: what a follower acked in a session is a beginning of the log of
// the leader that it acked it to, and it acks nothing in an epoch once it knows
// a newer one.
//
// INVARIANT: a log is cut only where the histories of leader epochs part. The
// high watermark says nothing of where to cut.
//
// The words that are easy to mix up:
//
//   - committed ISR: what the metadata says;
//   - proposed ISR: what this leader has asked the controller for and has not
//     heard of yet;
//   - maximal ISR: the union of both. A proposed removal still counts until it
//     is confirmed, a proposed addition counts at once;
//   - effective min ISR: min(min.insync.replicas, number of replicas);
//   - ack end: how far a replica may acknowledge, its synced end at Disk, its
//     end at Memory;
//   - session: a follower and a leader that agree where the follower's log
//     ends. What belongs to another session counts for nothing.
package replica
