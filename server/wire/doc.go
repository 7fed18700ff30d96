// Package wire reads and writes ProduceRequests, and writes ProduceResponses
// and reads and writes FetchResponses by hand: the messages of the hot paths, whose record batches
// pass through as bytes.
//
// It owns the shallow walk of a ProduceRequest, the splitting of a batch among
// partitions, and the encoding of answers. It refuses to own what a request
// means: limits, topics and partitions are the caller's, and the bytes of a
// batch are checked by record.Validator.
//
// INVARIANT: what Parse accepts, every protobuf parser reads alike; what the
// encoders write is what the generated code would read and, the bytes of
// batches aside, write.
//
// The package starts no goroutine. Its types are reused and belong to one
// goroutine each.
package wire
