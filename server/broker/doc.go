// Package broker owns the logs of one broker: its data directory and who may
// use it, which partitions it holds and leads, the flusher of their log
// directory, retention, the trash, and what it says to the controller.
//
// It refuses to own what happens inside a partition (server/partition), what
// is true of the cluster (server/metadata mirrors it), and how clients are
// answered (server/api).
//
// A partition's log is opened on first use, or by the sweep that follows a
// start, and closed when it goes away; an open log without work has no
// goroutine, descriptor or mapping, so what a start costs does not grow with
// the size of the logs.
//
// INVARIANT: nothing is appended before the incarnation record with this
// broker epoch is on disk, and `clean` is the last thing written.
// INVARIANT: a log's directory is moved away only on a record of this cluster's
// generation: of a deletion, or of a partition that others hold and lead, with
// enough of them in sync (ADR 12), or that is damaged here and not counted on
// (repair.go). Absence never deletes.
// INVARIANT: a torn tail that may have been acknowledged stays until the
// controller does not count on the replica (doubts.go).
// INVARIANT: after a failed sync nothing of the directory is acknowledged.
//
// Goroutines, all started by Run and ended before it returns: one follows the
// metadata, one sends heartbeats, some do upkeep (retention, checkpoints, trash),
// one opens logs and removes deleted ones, one has partitions look at the clock,
// one brings proposals of who is in sync to the controller, one those of who is
// to lead instead, one scrubs, one watches how the disk does and has it tried by
// another while something is the matter with it; those of the followed streams (server/follower),
// and the flusher's workers.
package broker
