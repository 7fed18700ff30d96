package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// ProduceResponse is a millstream.v1.ProduceResponse. Fields that only rare
// answers have are of the generated types.
type ProduceResponse struct {
	CorrelationID uint64
	Partition     record.PartitionID
	// BaseOffset is sent if HasBaseOffset.
	BaseOffset    record.Offset
	HasBaseOffset bool
	LeaderEpoch   record.LeaderEpoch
	// Ack is sent if HasAck.
	Ack        Ack
	HasAck     bool
	Error      *pb.RequestError
	Parts      []ProducePart
	Leader     *pb.LeaderHint
	ThrottleMs uint32
	// Drain and Reroute: at most one of them is set. Drain is a message of its own,
	// Reroute goes with an answer.
	Drain   *pb.Drain
	Reroute *pb.Reroute
}

// Ack is a millstream.v1.Ack.
type Ack struct {
	Scope          pb.AckScope
	Medium         pb.AckMedium
	InSyncReplicas uint32
}

// ProducePart is a millstream.v1.ProducePart.
type ProducePart struct {
	Partition record.PartitionID
	// BaseOffset is sent if HasBaseOffset.
	BaseOffset    record.Offset
	HasBaseOffset bool
	// Records are the indexes in the batch of the records of the part.
	Records []uint32
	Error   *pb.RequestError
}

// AppendProduceResponse appends r, encoded. An answer of everyday, without
// error, leader, drain and reroute, allocates nothing but room in dst.
func AppendProduceResponse(dst []byte, r *ProduceResponse) []byte {
	dst = appendUint(dst, 1, r.CorrelationID)
	dst = appendUint(dst, 2, uint64(r.Partition))
	if r.HasBaseOffset {
		dst = appendVarint(dst, 3, uint64(r.BaseOffset))
	}
	dst = appendUint(dst, 4, uint64(int64(r.LeaderEpoch)))
	if r.HasAck {
		dst = appendLen(dst, 5, r.Ack.size())
		dst = appendUint(dst, 1, uint64(int64(r.Ack.Scope)))
		dst = appendUint(dst, 2, uint64(int64(r.Ack.Medium)))
		dst = appendUint(dst, 3, uint64(r.Ack.InSyncReplicas))
	}
	if r.Error != nil {
		dst = appendMessage(dst, 6, r.Error)
	}
	for i := range r.Parts {
		dst = r.Parts[i].append(dst)
	}
	if r.Leader != nil {
		dst = appendMessage(dst, 8, r.Leader)
	}
	dst = appendUint(dst, 9, uint64(r.ThrottleMs))
	if r.Drain != nil {
		dst = appendMessage(dst, 10, r.Drain)
	}
	if r.Reroute != nil {
		dst = appendMessage(dst, 11, r.Reroute)
	}
	return dst
}

func (a *Ack) size() int {
	return sizeUint(uint64(int64(a.Scope))) + sizeUint(uint64(int64(a.Medium))) +
		sizeUint(uint64(a.InSyncReplicas))
}

// append appends p as a `parts` field.
func (p *ProducePart) append(dst []byte) []byte {
	indexes := 0
	for _, k := range p.Records {
		indexes += protowire.SizeVarint(uint64(k))
	}
	size := sizeUint(uint64(p.Partition))
	if p.HasBaseOffset {
		size += 1 + protowire.SizeVarint(uint64(p.BaseOffset))
	}
	if indexes > 0 {
		size += 1 + protowire.SizeBytes(indexes)
	}
	var failure []byte
	if p.Error != nil {
		failure = marshal(p.Error)
		size += 1 + protowire.SizeBytes(len(failure))
	}

	dst = appendLen(dst, 7, size)
	dst = appendUint(dst, 1, uint64(p.Partition))
	if p.HasBaseOffset {
		dst = appendVarint(dst, 2, uint64(p.BaseOffset))
	}
	if indexes > 0 {
		dst = appendLen(dst, 3, indexes)
		for _, k := range p.Records {
			dst = protowire.AppendVarint(dst, uint64(k))
		}
	}
	if p.Error != nil {
		dst = appendBytes(dst, 4, failure)
	}
	return dst
}

// FetchResponse is a millstream.v1.FetchResponse without its batches and
// records. A frame is made of the batches' bytes as read from the segment,
// which are fields of the message already, then AppendFetchResponse; or of
// AppendFetchResponse, then any number of AppendFetchedRecord.
type FetchResponse struct {
	SubscriptionID uint64
	Topic          string
	Partition      record.PartitionID
	FirstOffset    record.Offset
	NextOffset     record.Offset
	HighWatermark  record.Offset
	LogStart       record.Offset
	CreditUsed     uint32
	// Error, Drain, Reroute and CaughtUp: at most one of them is set.
	Error    *pb.RequestError
	Drain    *pb.Drain
	Reroute  *pb.Reroute
	CaughtUp bool
	// Finished is that of CaughtUp.
	Finished bool
	// TopicID is sent if HasTopicID.
	TopicID    record.TopicID
	HasTopicID bool
	// BrokerID is sent if HasBrokerID.
	BrokerID    int32
	HasBrokerID bool
}

// AppendFetchResponse appends r, encoded. A frame without error, drain and
// reroute allocates nothing but room in dst.
func AppendFetchResponse(dst []byte, r *FetchResponse) []byte {
	dst = appendUint(dst, 2, r.SubscriptionID)
	if r.Topic != "" {
		dst = appendLen(dst, 3, len(r.Topic))
		dst = append(dst, r.Topic...)
	}
	dst = appendUint(dst, 4, uint64(r.Partition))
	dst = appendUint(dst, 5, uint64(r.FirstOffset))
	dst = appendUint(dst, 6, uint64(r.NextOffset))
	dst = appendUint(dst, 7, uint64(r.HighWatermark))
	dst = appendUint(dst, 8, uint64(r.LogStart))
	dst = appendUint(dst, 9, uint64(r.CreditUsed))
	switch {
	case r.Error != nil:
		dst = appendMessage(dst, 10, r.Error)
	case r.Drain != nil:
		dst = appendMessage(dst, 11, r.Drain)
	case r.Reroute != nil:
		dst = appendMessage(dst, 12, r.Reroute)
	case r.CaughtUp:
		dst = appendLen(dst, 13, sizeUint(number(r.Finished)))
		dst = appendUint(dst, 1, number(r.Finished))
	}
	if r.HasTopicID {
		dst = appendLen(dst, 15, len(r.TopicID))
		dst = append(dst, r.TopicID[:]...)
	}
	if r.HasBrokerID { // also if it is 0
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 17, protowire.VarintType), uint64(int64(r.BrokerID)))
	}
	return dst
}

// AppendFetchLeader appends the hint where the leader is to a FetchResponse that
// is encoded already.
func AppendFetchLeader(dst []byte, leader *pb.LeaderHint) []byte {
	content, err := proto.Marshal(leader)
	if err != nil {
		return dst // text that is not UTF-8: then there is no hint
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, 16, protowire.BytesType), content)
}

// AppendFetchFinished makes a FetchResponse that is encoded already, and has no
// control other than that its reader has caught up, the last of a subscription.
func AppendFetchFinished(dst []byte) []byte {
	dst = protowire.AppendVarint(protowire.AppendTag(dst, 13, protowire.BytesType), 2)
	return protowire.AppendVarint(protowire.AppendTag(dst, 1, protowire.VarintType), 1)
}

// MaxFetchResponseSize is the most bytes that AppendFetchResponse appends for a
// frame without error and reroute, beside the topic's name.
const MaxFetchResponseSize = 128

// FetchedRecord is a millstream.v1.FetchedRecord. Record's timestamp and
// offset delta are not used.
type FetchedRecord struct {
	Offset      record.Offset
	TimestampMs int64
	LeaderEpoch record.LeaderEpoch
	Record      *record.Record
}

// Size returns the number of bytes that AppendFetchedRecord appends.
func (f *FetchedRecord) Size() int {
	n := f.contentSize()
	return 1 + protowire.SizeBytes(n)
}

func (f *FetchedRecord) contentSize() int {
	n := sizeUint(uint64(f.Offset)) + sizeUint(uint64(f.TimestampMs)) +
		sizeUint(uint64(int64(f.LeaderEpoch)))
	r := f.Record
	if r.Key != nil {
		n += 1 + protowire.SizeBytes(len(r.Key))
	}
	if r.Value != nil {
		n += 1 + protowire.SizeBytes(len(r.Value))
	}
	for i := range r.Headers {
		n += 1 + protowire.SizeBytes(headerSize(&r.Headers[i]))
	}
	return n
}

// AppendFetchedRecord appends f as a `records` field of a FetchResponse.
func AppendFetchedRecord(dst []byte, f *FetchedRecord) []byte {
	dst = appendLen(dst, 14, f.contentSize())
	dst = appendUint(dst, 1, uint64(f.Offset))
	dst = appendUint(dst, 2, uint64(f.TimestampMs))
	dst = appendUint(dst, 3, uint64(int64(f.LeaderEpoch)))
	r := f.Record
	if r.Key != nil {
		dst = appendBytes(dst, 4, r.Key)
	}
	if r.Value != nil {
		dst = appendBytes(dst, 5, r.Value)
	}
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = appendLen(dst, 6, headerSize(h))
		if len(h.Key) > 0 {
			dst = appendBytes(dst, 1, h.Key)
		}
		if h.Value != nil {
			dst = appendBytes(dst, 2, h.Value)
		}
	}
	return dst
}

func headerSize(h *record.RecordHeader) int {
	n := 0
	if len(h.Key) > 0 {
		n += 1 + protowire.SizeBytes(len(h.Key))
	}
	if h.Value != nil {
		n += 1 + protowire.SizeBytes(len(h.Value))
	}
	return n
}
