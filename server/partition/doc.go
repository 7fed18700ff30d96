// Package partition owns one replica of a partition while this broker holds
// it, as leader or follower: the queue of batches to append, group commit, the
// ends that readers may see, the requests that wait for an acknowledgement, the
// readers that wait for records, the sessions of followers (Feed), and what
// comes from the leader that is followed.
//
// It refuses to own bytes and files (storage/commitlog does), the decision
// what is committed (server/replica does), when and how many syncs run (the
// Flusher does), metadata and transport.
//
// # One owner at a time
//
// All mutable state that is not published belongs to the owner. The owner is
// a goroutine that the first append starts and that ends after about a second
// without work, or, while no goroutine runs, the caller of a rare operation
// (Lead, Follow, Resign, Confirm, Retain, DeleteRecords, Close), for the length
// of it. Streams between brokers leave what they have in the mailbox.
// So an idle partition has no goroutine, no timer, and the log below it no
// descriptor and no mapping, at MEMORY once a sync in the background came by.
// The mailbox's lock says who owns.
//
// # The path of a batch
//
//	Append ── mailbox ──► owner: commitlog.Append, one for all that is there
//	                        │
//	          MEMORY        │        DISK
//	     ┌──────────────────┴──────────────────┐
//	     │                           Flusher: fdatasync, meanwhile the next
//	     │                           groups are appended
//	     │                                     │ (through the mailbox)
//	     └──────────────────┬──────────────────┘
//	        checkpoint, publish the ends, complete requests in order
//
// What is admitted while the leadership is being handed over waits (handover.go).
//
// INVARIANT: a request is completed without error only after everything that
// its acknowledgement says is true and the checkpoint below it is written.
// INVARIANT: the readable end never goes back while the partition is open, but
// where a follower has to cut what was committed, which is reported as lost.
// INVARIANT: requests are completed in the order of their offsets.
//
// Readers never enter the mailbox: they use what is published.
//
// Goroutines: at most one per partition, started by an append or by the end of
// a sync, ended by idleness or Close, waited for by Close. Who opens a
// Partition closes it.
package partition
