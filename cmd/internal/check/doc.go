// Package check judges a history: whether what clients and brokers wrote down
// can have happened if Millstream keeps its promises.
//
// It is pure: events go in, in the order of history.Compare, and a report comes
// out. It owns no file, clock or goroutine. Every rule names the events that
// break it, and says how often it had something to judge: a rule that had
// nothing neither passed nor failed.
//
// What the events say of one partition is kept by six bookkeepers, each of
// which knows nothing of the others' state but what it is given:
//
//   - book: which batch is at which offset, who says so, and which appends may
//     still turn up (R1 R2 R3 R5 R6 R10 R11 R14 F5);
//   - readers: where each reader is (R8 R9 R14 R15 R23, S7);
//   - leaders: who acknowledges in which epoch (R16, H1);
//   - replicas: how far each broker's log is written, synced and known to be
//     committed (R15 R25 S2 S7);
//   - dumps: whether replicas are the same (R17);
//   - recovery: whether it takes appends again after a fault (R26).
//
// Beside them metadata keeps what anybody was told of topics and partitions: the
// versions of each, as registers (R24).
//
// INVARIANT: no violation is reported of a history in which every promise was
// kept, whatever was lost of the last lines of a recorder that was killed.
// Memory grows with the number of batches in the logs and of appends that
// failed or whose outcome is open, and of versions of the metadata, not with the
// number of events.
package check
