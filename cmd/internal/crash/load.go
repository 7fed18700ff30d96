package crash

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

const (
	batchRecords = 10
	inFlight     = 64 // requests without answer
)

// value is what record i of a batch holds: enough to tell it from any other.
func value(correlation uint64, i int) string {
	return fmt.Sprintf("batch %d record %d %0100d", correlation, i, correlation)
}

// request returns a batch that is unlike any other of the run.
func request(correlation uint64, partition uint32) *pb.ProduceRequest {
	records := make([]*pb.Record, batchRecords)
	for i := range records {
		records[i] = &pb.Record{Value: []byte(value(correlation, i))}
	}
	return &pb.ProduceRequest{CorrelationId: correlation, Topic: topic, Partition: &partition, Batch: &pb.RecordBatch{Records: records}}
}

// load produces to all partitions in turn until the stream or ctx ends, and
// enters what is acknowledged in the ledger.
func load(ctx context.Context, conn *grpc.ClientConn, cycle int, l *ledger) error {
	ctx, cancel := context.WithCancel(ctx)
	var sender sync.WaitGroup
	defer sender.Wait() // it writes history, and ends with ctx
	defer cancel()
	stream, err := pb.NewBrokerServiceClient(conn).Produce(ctx)
	if err != nil {
		return err
	}
	slots := make(chan struct{}, inFlight)
	sender.Go(func() {
		for n := uint64(0); ; n++ {
			select {
			case slots <- struct{}{}:
			case <-stream.Context().Done():
				return
			}
			correlation := uint64(cycle+1)<<32 | n
			r := request(correlation, uint32(n%uint64(len(l.partitions))))
			l.chronicle.Invoke(uint64(cycle+1), r)
			if stream.Send(r) != nil {
				return // Recv has the cause
			}
		}
	})
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if answer.GetCorrelationId() == 0 {
			continue // a control message
		}
		l.chronicle.Answered(answer)
		if answer.Error != nil {
			return fmt.Errorf("request %d: %s", answer.GetCorrelationId(), answer.GetError().GetMessage())
		}
		l.acknowledge(answer.GetPartition(), acked{base: answer.GetBaseOffset(), correlation: answer.GetCorrelationId()})
		<-slots
	}
}
