// Package pythontest runs the scripts of clients/python, which have grpcio and
// generated code and nothing else, against a real server.
package pythontest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/devserver"
	"github.com/millstream-io/millstream/cmd/internal/flights"
)

const scripts = "../../../clients/python"

// interpreter returns the Python that `make python` prepares, or skips.
func interpreter(t *testing.T) string {
	t.Helper()
	for _, f := range []string{".venv/done", "gen/millstream/v1/broker_service_pb2_grpc.py"} {
		if _, err := os.Stat(filepath.Join(scripts, f)); err != nil {
			t.Skip("no Python stubs here; `make python` makes them")
		}
	}
	return filepath.Join(scripts, ".venv", "bin", "python")
}

func startServer(t *testing.T) (s *devserver.Server, millstream func(args ...string)) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "millstream")
	if out, err := exec.Command("go", "build", "-o", binary, "../../millstream").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	s, err := devserver.Start(t.Context(), binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s, func(args ...string) {
		t.Helper()
		if out, err := exec.Command(binary, append([]string{"--addr", s.GRPCAddr}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("millstream %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// parse reads what fetch.py prints.
func parse(t *testing.T, out []byte) (records []flights.Record) {
	t.Helper()
	for line := range strings.Lines(string(out)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		if len(f) != 4 {
			t.Fatalf("fetch.py printed %q", line)
		}
		partition, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		offset, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, flights.Record{Partition: uint32(partition), Offset: offset, Key: f[2], Value: f[3]})
	}
	return records
}

func TestProduceAndFetchRealRecords(t *testing.T) {
	python := interpreter(t)
	server, millstream := startServer(t)
	millstream("topic", "create", "flights", "--partitions", "4")

	produce := exec.Command(python, filepath.Join(scripts, "produce.py"), server.GRPCAddr, "flights", "origin")
	produce.Stdin = bytes.NewReader(flights.NDJSON)
	if out, err := produce.CombinedOutput(); err != nil {
		t.Fatalf("produce.py: %v\n%s", err, out)
	}
	var stderr bytes.Buffer
	fetch := exec.Command(python, filepath.Join(scripts, "fetch.py"), server.GRPCAddr, "flights")
	fetch.Stderr = &stderr
	out, err := fetch.Output()
	if err != nil {
		t.Fatalf("fetch.py: %v\n%s", err, stderr.String())
	}
	keys, err := flights.Compare(flights.NDJSON, parse(t, out))
	if err != nil {
		t.Fatal(err)
	}
	if keys != 220 {
		t.Fatalf("%d keys", keys)
	}
}

func TestProduceSaysWhatIsWrong(t *testing.T) {
	python := interpreter(t)
	server, _ := startServer(t)
	produce := exec.Command(python, filepath.Join(scripts, "produce.py"), server.GRPCAddr, "nowhere")
	produce.Stdin = strings.NewReader("hello\n")
	out, err := produce.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nowhere") {
		t.Fatalf("produce.py to an unknown topic: %v\n%s", err, out)
	}
}
