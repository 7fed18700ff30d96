// Package growth measures what clients notice when a cluster changes: a broker
// is added and takes its share, is drained and removed, all are restarted one
// after the other; leaders and active controllers are killed; the disk of a leader is
// slow, full or read-only; and how fast a
// cluster with thousands of partitions is made and fails over.
//
// It owns the load, the schedule and the report. It refuses to own processes
// (cmd/internal/cluster). An error at a client, or a record that is lost,
// doubled or out of order, is a failure; times are only reported.
//
// Goroutines: those of the load and one that watches the partitions, ended
// before Grow, FailOver and Many return.
package growth
