package wire

import (
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// ForwardedProduce is a millstream.v1.ProduceRequest as one broker sends it to
// another: everything but the batch.
type ForwardedProduce struct {
	CorrelationID uint64
	Topic         string
	TopicID       record.TopicID
	Partition     record.PartitionID
	Acks          pb.Acks
	BatchCRC      uint32
	Restart       bool
	MinRevision   int64
	LeaderEpoch   record.LeaderEpoch
}

// MaxForwardedProduceSize is the most bytes that AppendForwardedProduce appends
// beside the topic's name and the batch.
const MaxForwardedProduceSize = 96

// AppendForwardedProduce appends r with a batch, whose bytes stay as they are.
func AppendForwardedProduce(dst []byte, r *ForwardedProduce, batch record.Pieces) []byte {
	dst = appendUint(dst, 1, r.CorrelationID)
	dst = append(appendLen(dst, 2, len(r.Topic)), r.Topic...)
	dst = appendVarint(dst, 3, uint64(r.Partition))
	dst = appendUint(dst, 5, uint64(int64(r.Acks)))
	dst = protowire.AppendFixed32(appendTag(dst, 6, protowire.Fixed32Type), r.BatchCRC)
	dst = appendUint(dst, 7, number(r.Restart))
	dst = append(appendLen(dst, 8, len(r.TopicID)), r.TopicID[:]...)
	dst = appendUint(dst, 15, uint64(r.MinRevision))
	dst = protowire.AppendVarint(protowire.AppendTag(dst, fieldLeaderEpoch, protowire.VarintType), uint64(int64(r.LeaderEpoch)))
	n := 0
	for _, piece := range batch {
		n += len(piece)
	}
	dst = appendLen(dst, 4, n)
	for _, piece := range batch {
		dst = append(dst, piece...)
	}
	return dst
}
