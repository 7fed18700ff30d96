// Package commitlog owns the log of one partition: which segments there are,
// where offsets begin and end, what is durable, and what happens to all that
// when the process or the machine dies.
//
// It refuses to own acknowledgement: it says what is written (End) and what is
// synced (SyncedEnd), and its caller decides what may be read and when a
// producer is answered. It starts no goroutine, keeps no time, and never syncs
// an append unless told, but when it seals a segment.
//
// # Who may call what
//
// One writer: Append, AppendFollowed, TruncateTo, ResetTo, DeleteBefore,
// Retain, Idle, StoreCheckpoint and Close are never called at the same time as
// one another; a log panics if they are. Sync, SyncCheckpoint and RemoveWaste
// may be called beside them and beside each other; so may all that only asks,
// and Readers, each of which belongs to one goroutine. Who opened a log closes
// it, after its last use.
//
// # Reading without locks
//
// The segments and the history of leader epochs are an immutable view behind
// an atomic pointer. The writer makes the next view and publishes it; then
// only does it touch what the old one had and the new one has not. A reader
// loads the end of the log, then the view, finds its segment, and pins it: a
// segment that left the view cannot be pinned any more, so a reader either
// holds it from before, and its bytes stay until it lets go (rule S4), or looks
// again. End before view: a view is never older than an end that was loaded
// before it, so what is below the end is in the view; if the log was truncated
// meanwhile, it is not, and the reader begins again.
//
// # What is durable (rule S2)
//
// INVARIANT: a segment is created only after the one before it was synced and
// sealed by its index file, and the directory synced. So all but the last are
// durable, and are trusted at the start without being read.
//
// INVARIANT: the checkpoint never says more than is true. It is stored after
// each group commit and before its acknowledgements, so that after the end of
// the process alone it is exact.
//
// INVARIANT: a record counts as synced only if a sync succeeded in the process
// that wrote it, or that wrote it again. A sync that fails leaves pages that are
// read as they were written, count as clean, and are not on the disk; whoever
// comes after the process that saw it cannot tell. So what recovery finds behind
// the checkpoint's synced end is written again, in place, before the sync that
// makes it count; it is at most the last segment, for a failed sync seals
// nothing. A checkpoint is written again, and synced, before anything is removed
// because of the log start in it.
//
// INVARIANT: what was found missing at a start stays missing, whatever happens to
// the machine: a log is served only when what is taken out of it is gone from the
// disk, unless that cannot be written to. A truncation, a log start or a reset
// whose sync failed, or that a process died in, looks done to the next process
// and may not be. So the checkpoint is marked as unsettled before the first step,
// and the mark is taken away after the last one was synced. Who finds it in the same boot gives the last segment's
// file its length anew, and syncs it, the checkpoint and the directory. The mark
// need not be on the disk: what is read after a power loss is there. Recovery
// itself leaves a mark of its own before it cuts a torn tail, which holds in each
// boot, and by which the next one can say that there was one. Without a mark, a
// start makes no sync for this.
//
// INVARIANT: what is removed above the log start has lost its bytes, durably,
// before its name goes. A name may come back after a power loss although a later
// sync of the directory succeeded, if one before had failed and its process has
// ended; a file without bytes is no segment and no index (see segment.Erase). Nor
// is a directory synced again after that failed.
//
// Recovery reads the last segment from the checkpoint's synced end on. A bad
// batch there is a torn tail if nothing behind it was ever acknowledged, and is
// cut; else it is damage, and the log is left as it is: it can be read where
// it is good, and not written to.
//
// INVARIANT: a tail that may have been acknowledged is cut only if whoever opens
// the log agrees (Options.BeforeCut). Until then every Open finds it again:
// before that recovery stores no checkpoint of this run of the operating
// system, so the tail does not come to look like one that a killed process left.
//
// On a file system that cannot be written to, recovery leaves undone what it would
// have written. The log can then be read as if it had been done, and takes nothing
// until it is opened again, which does it (Recovery.Withheld).
//
// The files are described in docs/format/partition.md.
package commitlog
