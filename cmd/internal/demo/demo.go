// Package demo runs the main job of Millstream from outside, as a user would:
// it starts `millstream dev`, creates a topic, produces a file of real records
// keyed by a field, consumes them back and compares, shows one record through
// server reflection and one by REST, and stops the server.
//
// Invariant: Run returns nil only if every record came back once, in the order
// of its key, from the one partition of its key. It owns the server process
// and the temporary directory, and has removed both when it returns.
package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/devserver"
	"github.com/millstream-io/millstream/cmd/internal/flights"
)

const (
	topic      = "flights"
	partitions = 4
)

// tour is a run of the demo.
type tour struct {
	binary string
	out    io.Writer
	server *devserver.Server
}

// Run runs the demo with the given binary and prints to out what it does.
func Run(ctx context.Context, binary string, out io.Writer) error {
	dir, err := os.MkdirTemp("", "millstream-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is in the temporary directory
	t := &tour{binary: binary, out: out}
	start := time.Now()
	if t.server, err = devserver.Start(ctx, binary, dir); err != nil {
		return err
	}
	defer t.server.Kill()
	t.say("started  millstream dev: controller and broker in one process, ready in %s", since(start))

	for _, step := range []func(context.Context) error{t.createTopic, t.produce, t.consume, t.reflect, t.rest} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	start = time.Now()
	if err := t.server.Stop(); err != nil {
		return err
	}
	t.say("stopped  in %s, exit status 0", since(start))
	return nil
}

func (t *tour) say(format string, args ...any) { _, _ = fmt.Fprintf(t.out, format+"\n", args...) }

func since(start time.Time) time.Duration { return time.Since(start).Round(time.Millisecond) }

// millstream runs the binary against the server and returns what it prints.
func (t *tour) millstream(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, t.binary, append([]string{"--addr", t.server.GRPCAddr}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("millstream %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.Bytes(), nil
}

func (t *tour) createTopic(ctx context.Context) error {
	if _, err := t.millstream(ctx, nil, "topic", "create", topic, "--partitions", fmt.Sprint(partitions)); err != nil {
		return err
	}
	t.say("created  topic %s with %d partitions", topic, partitions)
	return nil
}

func (t *tour) produce(ctx context.Context) error {
	start := time.Now()
	if _, err := t.millstream(ctx, bytes.NewReader(flights.NDJSON), "produce", topic, "--format", "ndjson", "--key-path", "origin"); err != nil {
		return err
	}
	n := bytes.Count(flights.NDJSON, []byte("\n"))
	t.say("produced %d records keyed by origin, every one on disk before it was acknowledged, in %s (%.0f records/s with starting the program)",
		n, since(start), float64(n)/time.Since(start).Seconds())
	return nil
}

func (t *tour) consume(ctx context.Context) error {
	start := time.Now()
	out, err := t.millstream(ctx, nil, "consume", topic, "--from", "earliest", "--until", "end", "-o", "json")
	if err != nil {
		return err
	}
	took := since(start)
	records, err := parseConsumed(out)
	if err != nil {
		return err
	}
	keys, err := flights.Compare(flights.NDJSON, records)
	if err != nil {
		return err
	}
	t.say("consumed %d records in %s: the same ones, in order for each of %d keys, each key in one partition", len(records), took, keys)

	r := records[len(records)/2]
	one, err := t.millstream(ctx, nil, "consume", topic, "--partition", fmt.Sprint(r.Partition), "--from", fmt.Sprint(r.Offset), "-n", "1")
	if err != nil {
		return err
	}
	if got := strings.TrimSuffix(string(one), "\n"); got != r.Value {
		return fmt.Errorf("partition %d offset %d: got %q, want %q", r.Partition, r.Offset, got, r.Value)
	}
	t.say("consumed partition %d from offset %d: %s", r.Partition, r.Offset, one[:len(one)-1])
	return nil
}

// reflect shows a record with nothing but what the server says of itself.
func (t *tour) reflect(ctx context.Context) error {
	out, err := t.millstream(ctx, nil, "api", "call", "millstream.v1.BrokerService/Read",
		"-d", fmt.Sprintf(`{"topic":%q,"partition":0,"offset":"0","max_records":"1"}`, topic))
	if err != nil {
		return err
	}
	if !bytes.Contains(out, []byte("origin")) {
		return fmt.Errorf("api call Read: no record in %q", out)
	}
	t.say("asked    millstream.v1.BrokerService/Read through server reflection:\n%s", indent(out))
	return nil
}

func (t *tour) rest(ctx context.Context) error {
	url := fmt.Sprintf("http://%s/v1/topics/%s/partitions/1/records?offset=0&max_records=1", t.server.HTTPAddr, topic)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.HasPrefix(body, []byte(`{"result":`)) {
		return fmt.Errorf("GET %s: %s\n%s", url, resp.Status, body)
	}
	t.say("asked    GET %s:\n%s", url, indent(body))
	return nil
}

func indent(b []byte) string {
	return "         " + strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "\n         ")
}

func parseConsumed(out []byte) ([]flights.Record, error) {
	var records []flights.Record
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var r flights.Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("consume printed %q: %w", lines.Text(), err)
		}
		records = append(records, r)
	}
	return records, lines.Err()
}
