// Package ceiling measures what a machine allows for replication with no
// platform at all: a client sends messages of opaque bytes on one stream to a
// leader, which checksums each, appends it to one file and hands it to
// followers over streams with mutual TLS; these checksum and append it too, and
// say how far they are; the client is answered when those who count have it.
// There are no offsets of records, no index, no roll, no election. A cluster is
// held against it, on the same machine in the same run.
//
// What is below a broker is what a broker uses: the servers, connections, codec
// and buffers of server/rpc, the certificates of server/pki and server/tlsfile,
// the files of storage/vfs. So a difference is of what stands above.
//
//	client ──► leader ──► file
//	             ├──────► follower ──► file
//	             └──────► follower ──► file
//
// INVARIANT: a round counts only if the file of each server has, to the byte,
// what the client sent. All that is on its way is bounded by Options.Window.
//
// It owns the processes of the servers, which are this program again, and a
// directory with their files; none of them outlives Run, nor the process that
// called it: a server ends when its standard input does. CPU time is read from
// /proc, so it works on Linux only. Its goroutines end before Run returns.
package ceiling
