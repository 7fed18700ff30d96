// Package cluster runs a whole cluster as processes of its own: controllers and
// brokers of the binary, on this machine, with a private authority and
// certificates between them. It is for `make cluster`, and for programs that
// look at a cluster from outside while they kill, pause and restart parts of
// it.
//
// It owns the processes, their directories, ports and certificates. A directory
// that is given is kept, and makes the same cluster when it is opened again; a
// temporary one goes with Close.
//
//	DIR/cluster.json                where the members listen
//	DIR/pki                         the authority and all certificates
//	DIR/broker-N, DIR/controller-N  data
//	DIR/broker-N.log, .pid          what it printed; its process while it runs
//	DIR/broker-N.sh                 starts it by hand, as it was started last
//
// All members live on loopback, unless the caller has a host for each: an
// address, and what to begin its command line with, such as what enters a
// network namespace. Such a directory is of use only while those hosts are.
//
// INVARIANT: a member keeps its ports and its certificate for the life of the
// directory, however often it is started. After Close no process is left.
//
// Goroutines: one for each process, which waits for its end.
package cluster
