// Consume prints a topic from its beginning and follows it until it is
// interrupted.
//
//	go run ./clients/go/examples/consume orders
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	millstream "github.com/millstream-io/millstream/clients/go"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: consume TOPIC")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1])
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
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
	reader, err := client.NewReader(ctx, millstream.ReaderOptions{Topic: topic})
	if err != nil {
		return err
	}
	defer reader.Close()
	for record, err := range reader.Records(ctx) {
		if err != nil {
			return err
		}
		// The bytes are valid until the next record: Clone what is kept.
		_, err := fmt.Fprintf(os.Stdout, "%d/%d %s %q: %s\n",
			record.Partition, record.Offset, record.Time.Format("15:04:05.000"), record.Key, record.Value)
		if err != nil {
			return err
		}
	}
	return nil
}
