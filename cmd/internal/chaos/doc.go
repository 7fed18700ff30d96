// Package chaos breaks a cluster of real processes in ways that a seed decides,
// while clients produce and read, and has the history of the run judged by the
// rules of package check.
//
// Where the machine lets it, each process has a network namespace, a disk and a
// boot of the machine of its own, so that it can be cut off from others, lose
// what it has not synced, and find its disk full or damaged.
//
// A fault breaks one thing for a while, or is a script: several steps, each of
// which builds on what the one before has broken. Scripts wait no longer than
// the run lasts, and may have a verdict of their own beside the rules.
//
// It owns the faults, the load and the end of a run: everything is mended, what
// was acknowledged is read once more, and what is in the logs of all brokers is
// written down. It refuses to own processes (cmd/internal/cluster), networks
// and disks (cmd/internal/netns, cmd/internal/disk), the form of the history
// (cmd/internal/chronicle) and the verdict (cmd/internal/check).
//
// A producer is plain: what has an unknown outcome is not sent again. An admin
// asks again, under the same request id.
//
// Goroutines: one for each producer, reader and admin, and what they start, and one for
// a step of a script in the middle of which somebody is broken; all end before
// Run returns.
package chaos
