// Package sim runs a cluster of brokers in one goroutine, with simulated time,
// network and disks, and the real decision cores: server/replica in the
// brokers, controller/election in the controller. Everything that happens is
// drawn from one seed: the same seed gives the same history, to the letter.
//
// A run has two parts. While faults happen, safety is checked at every step:
// see checker. Then the faults stop, and the cluster has to converge: a leader,
// all replicas in sync and equal, acks again.
//
// Meanwhile the controller asks leaders, now and then, to hand over to another
// in-sync replica, as when a partition is moved.
//
// The faults are bounded so that the promise is owed: at Memory no machine loses
// its power; a disk is lost only when all replicas are in sync and no other is
// lost, and never with a min ISR of one. All else is unbounded: processes are
// killed and paused, all machines lose power at once, syncs fail and are slow,
// frames are late and overtake one another on different streams, links are cut
// in one direction or both, the controller is away; a proposal of another ISR
// is held for up to 20 s, while a disk is replaced that it names; and leaders let
// old records go.
//
// Each machine has clocks of its own (see clock): they go up to 5 % too fast or
// too slowly, stand still while the machine sleeps, and their time of day is set
// to what may be an hour or a century off.
//
// What is around the cores in a broker, and is not simulated by the real code:
// the log (a list), the network, the controller's bookkeeping.
package sim
