package api

import (
	"errors"

	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/commitlog"
)

// A leader whose storage fails does nothing more for a partition until the
// controller has another lead, which takes a moment. What it refuses to write was
// surely not written; who asks again meets the next leader, and loses nothing by
// waiting for it. Where nobody can take over the refusal stays what it is: an
// operator has to act.

// faultAt is faultOf for what a partition here did not do.
func (s *BrokerService) faultAt(topic metadata.TopicID, id uint32, err error) *rpc.Fault {
	return s.faultOf(s.leftBehind(topic, id, err))
}

// leftBehind makes an error retryable with which the storage of a partition here
// refuses what another broker can do.
func (s *BrokerService) leftBehind(topic metadata.TopicID, id uint32, err error) error {
	if err == nil || !refusedByStorage(err) || !s.othersMayLead(topic, id) {
		return err
	}
	f := FaultOf(err)
	f.Retryable, f.RetryAfter = true, max(f.RetryAfter, retryAfter)
	f.Message = "another broker is about to lead: " + f.Message
	return f
}

// refusedByStorage tells whether a partition refused a request for want of
// storage, and has nothing of it.
//
// WHY not other errors of storage: that a batch does not fit behind those that
// are there, no other leader makes better.
func refusedByStorage(err error) bool {
	if errors.Is(err, partition.ErrUnknownOutcome) {
		return false
	}
	return isType[*partition.FailedError](err) || isType[*partition.QuarantinedError](err) || refusedByDisk(err)
}

// refusedByDisk tells whether a log was left as it was. A log that has failed is
// not, whatever was the cause.
func refusedByDisk(err error) bool {
	return isType[*commitlog.WriteError](err) && !isType[*commitlog.FailedError](err)
}

// othersMayLead tells whether another broker leads a partition, or can: it has
// all that is committed, serves, and its disk is well.
func (s *BrokerService) othersMayLead(topic metadata.TopicID, id uint32) bool {
	m, self := s.metadata.Current(), s.broker.ID()
	t := m.TopicByID(topic)
	if t == nil {
		return false
	}
	part := t.Partition(id)
	if part == nil {
		return false
	}
	if part.Leader != self && part.Leader != metadata.NoLeader {
		return true
	}
	can := func(id int32) bool {
		b := m.Broker(id)
		return id != self && b != nil && !b.Fenced && !m.Impaired(id)
	}
	for _, in := range [...][]int32{part.ISR, part.ELR} {
		for _, id := range in {
			if can(id) {
				return true
			}
		}
	}
	return false
}
