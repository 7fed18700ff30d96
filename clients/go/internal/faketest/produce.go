package faketest

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Produce carries out requests one after the other.
func (s *Server) Produce(stream grpc.BidiStreamingServer[pb.ProduceRequest, pb.ProduceResponse]) error {
	broken := make(map[string]bool)
	for {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var v Verdict
		if s.OnProduce != nil {
			v = s.OnProduce(q)
		}
		if v.Wait != nil {
			select {
			case <-v.Wait:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		if v.Drain {
			if err := stream.Send(&pb.ProduceResponse{Control: &pb.ProduceResponse_Drain{Drain: &pb.Drain{}}}); err != nil {
				return err
			}
		}
		a := s.carryOut(q, v.Error, broken)
		if v.Reroute != nil {
			a.Control = &pb.ProduceResponse_Reroute{Reroute: v.Reroute}
		}
		if v.Lose != nil {
			return v.Lose
		}
		if err := stream.Send(a); err != nil || v.Drain {
			return err
		}
	}
}

func (s *Server) carryOut(q *pb.ProduceRequest, refused *pb.RequestError, broken map[string]bool) *pb.ProduceResponse {
	a := &pb.ProduceResponse{CorrelationId: q.GetCorrelationId(), Partition: q.GetPartition()}
	way := fmt.Sprintf("%s/%d", q.GetTopic(), q.GetPartition())
	l := s.Log(q.GetTopic(), q.GetPartition())
	if q.GetRestart() {
		delete(broken, way)
	}
	switch {
	case broken[way]:
		a.Error = &pb.RequestError{Code: uint32(codes.Aborted), Reason: pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED, Message: "an earlier request failed"}
	case refused != nil:
		a.Error = refused
	case l == nil:
		a.Error = &pb.RequestError{Code: uint32(codes.NotFound), Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION}
	default:
		a.LeaderEpoch = 7
		a.Ack = &pb.Ack{Scope: pb.AckScope_ACK_SCOPE_ISR, Medium: pb.AckMedium_ACK_MEDIUM_MEMORY, InSyncReplicas: 1}
		base := l.Append(q.GetBatch(), 0)
		if q.GetAcks() != pb.Acks_ACKS_NONE {
			a.BaseOffset = proto.Int64(base)
		}
	}
	broken[way] = a.GetError() != nil
	return a
}
