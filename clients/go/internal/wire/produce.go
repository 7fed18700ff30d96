package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of ProduceRequest.
const (
	requestCorrelationID = 1
	requestTopic         = 2
	requestPartition     = 3
	requestBatch         = 4
	requestAcks          = 5
	requestBatchCRC      = 6
	requestRestart       = 7
	requestTopicID       = 8
	requestMinRevision   = 15
)

// ProduceHeader is everything of a ProduceRequest but its batch.
type ProduceHeader struct {
	CorrelationID uint64
	Topic         string
	TopicID       []byte
	Partition     uint32
	Acks          int32
	// BatchCRC is the CRC-32C of the batch's bytes.
	BatchCRC uint32
	Restart  bool
	// MinRevision is the least metadata revision that the client has seen.
	MinRevision int64
}

// AppendTo appends the bytes of a ProduceRequest that precede a batch of
// batchLen bytes: the header and the batch, one after the other, are the
// message.
func (h *ProduceHeader) AppendTo(dst []byte, batchLen int) []byte {
	dst = protowire.AppendTag(dst, requestCorrelationID, protowire.VarintType)
	dst = protowire.AppendVarint(dst, h.CorrelationID)
	dst = protowire.AppendTag(dst, requestTopic, protowire.BytesType)
	dst = protowire.AppendString(dst, h.Topic)
	dst = protowire.AppendTag(dst, requestPartition, protowire.VarintType)
	dst = protowire.AppendVarint(dst, uint64(h.Partition))
	if h.Acks != 0 {
		dst = protowire.AppendTag(dst, requestAcks, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(h.Acks))
	}
	dst = protowire.AppendTag(dst, requestBatchCRC, protowire.Fixed32Type)
	dst = protowire.AppendFixed32(dst, h.BatchCRC)
	if h.Restart {
		dst = protowire.AppendTag(dst, requestRestart, protowire.VarintType)
		dst = protowire.AppendVarint(dst, 1)
	}
	if len(h.TopicID) > 0 {
		dst = protowire.AppendTag(dst, requestTopicID, protowire.BytesType)
		dst = protowire.AppendBytes(dst, h.TopicID)
	}
	if h.MinRevision > 0 {
		dst = protowire.AppendTag(dst, requestMinRevision, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(h.MinRevision))
	}
	dst = protowire.AppendTag(dst, requestBatch, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(batchLen))
}

// Size returns a bound of what AppendTo appends.
func (h *ProduceHeader) Size() int { return 80 + len(h.Topic) + len(h.TopicID) }

// Field numbers of ProduceResponse and Ack.
const (
	responseCorrelationID = 1
	responsePartition     = 2
	responseBaseOffset    = 3
	responseLeaderEpoch   = 4
	responseAck           = 5
	responseThrottle      = 9

	ackScope  = 1
	ackMedium = 2
	ackInSync = 3
)

// ProduceAnswer is a ProduceResponse as it usually is: an acknowledgement.
type ProduceAnswer struct {
	CorrelationID uint64
	Partition     uint32
	// BaseOffset is -1 when the answer has none.
	BaseOffset  int64
	LeaderEpoch int32
	Scope       int32
	Medium      int32
	InSync      uint32
	ThrottleMs  uint32
	// Unusual is true when the message holds more than this (an error, parts,
	// a control message): decode it with the generated code.
	Unusual bool
}

// Parse reads a ProduceResponse.
func (a *ProduceAnswer) Parse(b []byte) error {
	*a = ProduceAnswer{BaseOffset: -1}
	for len(b) > 0 {
		f, ok := next(b)
		if !ok {
			return &MalformedError{Message: "ProduceResponse", What: "does not decode"}
		}
		b = b[f.size:]
		switch {
		case f.number == responseAck && f.kind == protowire.BytesType:
			if !a.parseAck(f.bytes) {
				return &MalformedError{Message: "Ack", What: "does not decode"}
			}
		case f.kind != protowire.VarintType:
			a.Unusual = true
		case f.number == responseCorrelationID:
			a.CorrelationID = f.number64
		case f.number == responsePartition:
			a.Partition = uint32(f.number64)
		case f.number == responseBaseOffset:
			a.BaseOffset = int64(f.number64)
		case f.number == responseLeaderEpoch:
			a.LeaderEpoch = int32(f.number64)
		case f.number == responseThrottle:
			a.ThrottleMs = uint32(f.number64)
		default:
			a.Unusual = true
		}
	}
	return nil
}

func (a *ProduceAnswer) parseAck(b []byte) bool {
	for len(b) > 0 {
		f, ok := next(b)
		if !ok {
			return false
		}
		b = b[f.size:]
		if f.kind != protowire.VarintType {
			continue
		}
		switch f.number {
		case ackScope:
			a.Scope = int32(f.number64)
		case ackMedium:
			a.Medium = int32(f.number64)
		case ackInSync:
			a.InSync = uint32(f.number64)
		}
	}
	return true
}
