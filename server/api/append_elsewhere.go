package api

import (
	"context"
	"fmt"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

// here gives a part to its partition, if this broker leads it. Without an error
// the part is the partition's.
func (c *appendCall) here(ctx context.Context, p *appendPart) error {
	if err := expected(ctx, c.s.metadata, c.topic, p.id); err != nil {
		return err
	}
	at, err := c.s.broker.PartitionOf(c.topic, p.id)
	if err != nil {
		return err
	}
	return at.Append(ctx, &p.Request)
}

// anywhere has a part appended by whoever leads its partition.
func (c *appendCall) anywhere(ctx context.Context, p *appendPart) {
	taken := false
	err := c.s.run(ctx, c.topic, func() error {
		err := c.here(ctx, p)
		taken = err == nil
		return err
	}, func(to forward.Target) error { return c.there(ctx, p, to) })
	if !taken {
		p.away = true
		p.finish(err)
	}
}

// there has the leader append a part.
func (c *appendCall) there(ctx context.Context, p *appendPart, to forward.Target) error {
	q := &pb.AppendRequest{
		Topic: c.topic.Name, Partition: &p.id, Acks: c.request.GetAcks(), MinRevision: max(c.request.GetMinRevision(), to.Revision),
	}
	for i, at := range c.places {
		if at.part == p {
			q.Records = append(q.Records, c.request.GetRecords()[i])
		}
	}
	got := &pb.AppendResponse{}
	if err := forward.Call(ctx, c.s.peers, to, pb.BrokerService_Append_FullMethodName, q, got); err != nil {
		return err
	}
	if p.Acks == partition.AcksNone {
		return nil
	}
	if n := len(got.GetPlaces()); n != len(q.GetRecords()) || got.GetPlaces()[0].Offset == nil {
		return &forward.BrokenError{Broker: to.Leader, Cause: fmt.Errorf("it says where %d of %d records are", n, len(q.GetRecords()))}
	}
	first := got.GetPlaces()[0]
	p.Base, p.Epoch = record.Offset(first.GetOffset()), record.LeaderEpoch(first.GetLeaderEpoch())
	p.Medium, p.InSync = partition.Medium(got.GetAck().GetMedium()), got.GetAck().GetInSyncReplicas()
	return nil
}
