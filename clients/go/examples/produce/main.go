// Produce appends the lines of standard input to a topic, keyed by their
// first word, and says where the last one went.
//
//	go run ./clients/go/examples/produce orders < lines.txt
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"

	millstream "github.com/millstream-io/millstream/clients/go"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: produce TOPIC")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, topic string) error {
	client, err := millstream.New(millstream.Options{Addr: os.Getenv("MILLSTREAM_ADDR")})
	if err != nil {
		return err
	}
	defer client.Close()
	producer, err := client.NewProducer(ctx, millstream.ProducerOptions{Topic: topic})
	if err != nil {
		return err
	}
	var last millstream.Pending
	count := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); count++ {
		key, _, _ := bytes.Cut(lines.Bytes(), []byte(" "))
		// Append copies the bytes and returns at once.
		if last, err = producer.Append(ctx, millstream.Record{Key: key, Value: lines.Bytes()}); err != nil {
			return err
		}
	}
	// Close returns when every record is acknowledged, or says what failed.
	if err := producer.Close(ctx); err != nil {
		return err
	}
	if count == 0 {
		return nil
	}
	place, err := last.Wait(ctx)
	if err == nil {
		_, err = fmt.Fprintf(os.Stdout, "%d records; the last is in partition %d at offset %d\n", count, place.Partition, place.Offset)
	}
	return err
}
