package pythontest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// A script talks to one broker of three, which is killed: it goes on through
// the others, misses nothing and repeats nothing.
func TestAScriptOutlivesTheBrokerItTalksTo(t *testing.T) {
	python := interpreter(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	binary := filepath.Join(t.TempDir(), "millstream")
	if out, err := exec.Command("go", "build", "-o", binary, "../../millstream").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	c, err := cluster.Open(cluster.Options{Binary: binary, Dir: t.TempDir(), ControllerArgs: []string{"--session-timeout", "1s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range c.Brokers() {
		all = append(all, m.GRPCAddr)
	}
	addrs := strings.Join(all, ",")
	client, err := millstream.New(millstream.Options{Addr: addrs})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 1, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}

	start := func(what string) (io.WriteCloser, *bufio.Scanner) {
		cmd := exec.CommandContext(ctx, python, filepath.Join(scripts, "failover.py"), what, addrs, "orders", "0")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return in, bufio.NewScanner(out)
	}
	in, said := start("produce")
	_, read := start("consume")
	next := 0
	outcome := make(map[string]string)
	// acknowledged writes values until so many more were acknowledged.
	acknowledged := func(n int) {
		t.Helper()
		for n > 0 {
			value := fmt.Sprint("v", next)
			next++
			if _, err := fmt.Fprintln(in, value); err != nil {
				t.Fatal(err)
			}
			if !said.Scan() {
				t.Fatalf("the producer ended at %s", value)
			}
			how, what, _ := strings.Cut(said.Text(), " ")
			if what != value {
				t.Fatalf("the producer said %q of %s", said.Text(), value)
			}
			if outcome[value] = how; how != "unknown" {
				n--
			}
		}
	}
	acknowledged(20)
	c.Broker(1).Kill() // the one that they were told first
	acknowledged(20)

	for offset := 0; ; offset++ {
		if !read.Scan() {
			t.Fatalf("the consumer ended at offset %d", offset)
		}
		at, value, _ := strings.Cut(read.Text(), " ")
		if how := outcome[value]; at != fmt.Sprint(offset) || how != at && how != "unknown" {
			t.Fatalf("the consumer read %q at offset %d; the producer was told %q", read.Text(), offset, how)
		}
		delete(outcome, value)
		if value == fmt.Sprint("v", next-1) {
			break
		}
	}
	for value, how := range outcome {
		if how != "unknown" {
			t.Errorf("%s was acknowledged at %s and not read", value, how)
		}
	}
}
