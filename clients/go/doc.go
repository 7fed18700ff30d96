// Package millstream is the Go client of Millstream: a thin layer over the
// generated stubs that batches records, keeps their order through failures
// and reads them back without reflection.
//
// A [Client] is one connection, and more to brokers that turn out to lead what
// is written and read. A [Producer] appends the records of one topic over one
// Produce stream to each of these; a [Reader] reads partitions of one topic
// over one Fetch stream to each. Everything else (topics, offsets, the cluster)
// is one call on a generated stub: [Client.Topics], [Client.Cluster],
// [Client.Broker].
//
// What it promises. Records of one partition are kept in the order in which
// they were handed over, whatever is retried. What surely was not written is
// sent again, in order; what may have been written is never sent again, and
// fails with an [UnknownOutcomeError]. A reader delivers every record from
// its position on, once, in the order of each partition, across reconnects.
//
// What it costs. A record handed to [Producer.Append] is copied once, into
// the batch that is sent; a record from [Reader.Next] points into the bytes
// that were received. Neither allocates, reads a clock or passes a channel.
//
// A broker that is gone without a word (its network is cut) is given up after
// 5 s in which it says nothing, also when it is asked; what was in flight there
// fails with an UnknownOutcomeError. One that is there may take its time.
//
// Goroutines. A Producer and a Reader start a sender for each broker that they
// talk to and, while a stream is open, a receiver; Close ends them and waits. A
// Client has two of its own. [Client.Close] closes what is still open. The
// package imports the generated API and nothing else of Millstream.
package millstream
