package millstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Create a topic with the generated stub, and read its errors.
func ExampleClient_Topics() {
	ctx := context.Background()
	client, err := millstream.New(millstream.Options{Addr: "127.0.0.1:9650"})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	_, err = client.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 3})
	if said, ok := errors.AsType[*millstream.Error](millstream.ErrorOf("create topic", "orders", err)); ok {
		if said.Reason != pb.ErrorReason_ERROR_REASON_TOPIC_EXISTS {
			panic(said)
		}
	}
}

// Hand records over and find out at the end whether all were acknowledged.
func ExampleProducer_Append() {
	ctx := context.Background()
	client, err := millstream.New(millstream.Options{})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	producer, err := client.NewProducer(ctx, millstream.ProducerOptions{
		Topic:       "orders",
		Compression: millstream.CompressionZstd,
		Linger:      5 * time.Millisecond,
	})
	if err != nil {
		panic(err)
	}
	for i := range 1000 {
		record := millstream.Record{Key: fmt.Appendf(nil, "customer-%d", i%10), Value: []byte(`{"amount": 3}`)}
		if _, err := producer.Append(ctx, record); err != nil {
			panic(err)
		}
	}
	var lost *millstream.UnacknowledgedError
	if err := producer.Close(ctx); errors.As(err, &lost) {
		fmt.Fprintf(os.Stderr, "%d of 1000 records: %v", lost.Records, lost.First)
	}
}

// Wait for one record, and tell apart what may be sent again.
func ExampleProducer_AppendSync() {
	ctx := context.Background()
	client, err := millstream.New(millstream.Options{})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	producer, err := client.NewProducer(ctx, millstream.ProducerOptions{Topic: "orders"})
	if err != nil {
		panic(err)
	}
	place, err := producer.AppendSync(ctx, millstream.Record{Value: []byte("hello")})
	var unknown *millstream.UnknownOutcomeError
	switch {
	case err == nil:
		fmt.Fprintln(os.Stderr, place.Partition, place.Offset)
	case errors.As(err, &unknown):
		fmt.Fprintln(os.Stderr, "it may have been written: sending it again may write it twice")
	default:
		fmt.Fprintln(os.Stderr, "it was not written:", err)
	}
}

// Be told of batches instead of waiting for records.
func ExampleProducerOptions_onBatch() {
	options := millstream.ProducerOptions{
		Topic: "orders",
		OnBatch: func(b millstream.BatchResult) {
			if b.Err != nil {
				fmt.Fprintf(os.Stderr, "%d records: %v\n", b.Records, b.Err)
				return
			}
			fmt.Fprintf(os.Stderr, "partition %d: offsets [%d, %d)\n", b.Partition, b.Offset, b.Offset+int64(b.Records))
		},
	}
	_ = options
}

// Read what there is and remember where to go on.
func ExampleReader_Next() {
	ctx := context.Background()
	client, err := millstream.New(millstream.Options{})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	reader, err := client.NewReader(ctx, millstream.ReaderOptions{
		Topic:     "orders",
		From:      millstream.AtTime(time.Now().Add(-time.Hour)),
		Positions: map[uint32]millstream.Position{2: millstream.AtOffset(4711, 9)},
		UntilEnd:  true,
	})
	if err != nil {
		panic(err)
	}
	defer reader.Close()
	for {
		record, err := reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		var said *millstream.Error
		switch {
		case errors.As(err, &said) && said.OffsetRange != nil:
			fmt.Fprintf(os.Stderr, "partition %d begins at %d now\n", said.Partition, said.OffsetRange.GetStart())
			continue // with the other partitions
		case err != nil:
			panic(err)
		}
		fmt.Fprintln(os.Stderr, record.Partition, record.Offset, string(record.Value))
	}
	position, _ := reader.Position(0)
	if offset, leaderEpoch, ok := position.Offset(); ok {
		fmt.Fprintln(os.Stderr, "go on with millstream.AtOffset", offset, leaderEpoch)
	}
}
