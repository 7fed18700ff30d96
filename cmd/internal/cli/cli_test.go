package cli

import (
	"bytes"
	"strings"
	"testing"
)

// run runs the command line and returns what it printed and its exit code.
func run(t *testing.T, environ []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	p := &Program{
		Version: "v0", Args: args, In: strings.NewReader(""), Out: &out, Err: &errs, Environ: environ,
		Getenv: func(name string) string {
			for _, e := range environ {
				if value, ok := strings.CutPrefix(e, name+"="); ok {
					return value
				}
			}
			return ""
		},
	}
	exit = p.Run(t.Context())
	return out.String(), errs.String(), exit
}

func TestUsageIsExitCode2AndOneLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"topc"}, `did you mean "topic"`},
		{[]string{"topic", "creat", "x"}, `did you mean "create"`},
		{[]string{"topic", "create"}, "NAME is missing"},
		{[]string{"topic", "create", "a", "b"}, `unexpected argument "b"`},
		{[]string{"topic", "create", "a", "--partitions", "0"}, "--partitions"},
		{[]string{"topic", "create", "a", "--partitions", "x"}, "--partitions"},
		{[]string{"topic", "create", "a", "--config", "x"}, "KEY=VALUE"},
		{[]string{"topic", "alter", "a"}, "nothing to change"},
		{[]string{"topic", "trim", "a"}, "--before"},
		{[]string{"topic", "list", "-o", "xml"}, "table, json or yaml"},
		{[]string{"topic", "list", "--addr", "nowhere"}, "HOST:PORT"},
		{[]string{"topic", "list", "--addr", "127.0.0.1:1,nowhere"}, "HOST:PORT"},
		{[]string{"topic", "list", "--log-level", "loud"}, "log level"},
		{[]string{"--nothing", "topic", "list"}, "--nothing"},
		{[]string{"produce"}, "TOPIC is missing"},
		{[]string{"produce", "t", "--format", "xml"}, "lines or ndjson"},
		{[]string{"produce", "t", "--acks", "some"}, "all, leader or none"},
		{[]string{"produce", "t", "--compression", "gzip"}, "zstd"},
		{[]string{"produce", "t", "--key", "a", "--key-separator", ":"}, "exclude"},
		{[]string{"produce", "t", "--key-path", "a"}, "--format ndjson"},
		{[]string{"produce", "t", "--format", "ndjson", "--key-path", "a..b"}, "a..b"},
		{[]string{"produce", "t", "--format", "ndjson", "--key-separator", ":"}, "--format lines"},
		{[]string{"produce", "t", "-H", "novalue"}, "K:V"},
		{[]string{"consume", "t", "--from", "yesterday"}, "earliest"},
		{[]string{"consume", "t", "--from", "@yesterday"}, "RFC 3339"},
		{[]string{"consume", "t", "--from", "-"}, "earliest"},
		{[]string{"consume", "t", "--until", "noon"}, "end"},
		{[]string{"consume", "t", "-o", "table"}, "value, json"},
		{[]string{"consume", "t", "-o", "%x"}, "%x"},
		{[]string{"consume", "t", "-n", "-1"}, "-n"},
		{[]string{"bench", "produce", "--topic", "t", "-o", "yaml"}, "json"},
		{[]string{"bench", "produce"}, "topic"},
		{[]string{"bench", "produce", "--topic", "t", "--server-pids", "x"}, "--server-pids"},
		{[]string{"bench", "produce", "--topic", "t", "--records", "0"}, "--records must be positive"},
		{[]string{"bench", "produce", "--topic", "t", "--record-size", "0"}, "--record-size must be positive"},
		{[]string{"bench", "produce", "--topic", "t", "--batch-bytes", "0"}, "--batch-bytes must be positive"},
		{[]string{"bench", "produce", "--topic", "t", "--batch-bytes", "5"}, "--batch-bytes: must be between"},
		{[]string{"bench", "consume", "--topic", "t", "--connections", "0"}, "--connections must be positive"},
		{[]string{"bench", "consume", "--topic", "t", "--records", "-1"}, "--records"},
		{[]string{"bench", "produce", "--topic", "t", "--partitions", "0"}, "--partitions must be positive"},
		{[]string{"bench", "latency", "--topic", "t", "--rate", "0"}, "--rate must be positive"},
		{[]string{"bench", "latency", "--topic", "t", "--records", "1000"}, "at least 1001 at a rate of 1000"},
		{[]string{"bench", "latency", "--topic", "t", "--record-size", "15"}, "at least 16 B"},
		{[]string{"dev", "--data-dir", ""}, "--data-dir is empty"},
		{[]string{"broker", "--data-dir", ""}, "data-dir"},
		{[]string{"controller", "--data-dir="}, "data-dir"},
		{[]string{"config", "show", "dev", "--data-dir", ""}, "--data-dir is empty"},
		{[]string{"consume", ""}, "TOPIC is empty"},
		{[]string{"topic", "describe", ""}, "NAME is empty"},
		{[]string{"api", "call"}, "METHOD"},
		{[]string{"api", "list", "a", "b"}, "arg"},
		{[]string{"completion", "tcsh"}, "bash"},
		{[]string{"config", "show", "--grpc-addr", "x"}, "grpc-addr"},
		{[]string{"config", "show", "dev", "--topics", "a:0"}, "topics"},
		{[]string{"check"}, "DIR is missing"},
		{[]string{"check", "d", "--require", "R99"}, "R99"},
		{[]string{"check", "d", "-o", "json"}, "one form only"},
		{[]string{"version", "please"}, "please"},
		{[]string{"cluster", "drain"}, "BROKER is missing"},
		{[]string{"cluster", "drain", "-1"}, "shorthand flag"},
		{[]string{"cluster", "drain", "one"}, "number"},
		{[]string{"cluster", "drain", "1", "--yes", "--dry-run"}, "exclude"},
		{[]string{"cluster", "drain", "1", "--timeout", "1s"}, "--timeout needs --wait"},
		{[]string{"cluster", "drain", "1", "--wait", "--timeout", "0s"}, "positive"},
		{[]string{"cluster", "drain", "1", "--throttle", "fast"}, "--throttle"},
		{[]string{"cluster", "undrain", "x"}, "number"},
		{[]string{"cluster", "remove", "1", "--yes", "--dry-run"}, "exclude"},
		{[]string{"cluster", "rebalance", "--leaders", "--wait"}, "excludes"},
		{[]string{"cluster", "rebalance", "--topic", "t"}, "--topic needs --leaders"},
		{[]string{"cluster", "move"}, "is missing"},
		{[]string{"cluster", "move", "orders=1"}, "TOPIC/PARTITION"},
		{[]string{"cluster", "move", "orders/x=1"}, "TOPIC/PARTITION"},
		{[]string{"cluster", "move", "orders/0"}, "BROKER,BROKER"},
		{[]string{"cluster", "move", "orders/0=1,x"}, "not a number"},
		{[]string{"cluster", "move", "orders/0=1", "--file", "f"}, "not both"},
		{[]string{"cluster", "move", "orders/0=1", "--all"}, "--all needs --cancel"},
		{[]string{"cluster", "move", "--cancel"}, "is missing"},
		{[]string{"cluster", "move", "--cancel", "--all", "orders/0"}, "not both"},
		{[]string{"cluster", "move", "--cancel", "orders/0", "--wait"}, "excludes"},
		{[]string{"cluster", "move", "--file", "-"}, "-: "},
		{[]string{"cluster", "recover"}, "TOPIC/PARTITION"},
		{[]string{"cluster", "recover", "orders"}, "TOPIC/PARTITION"},
		{[]string{"cluster", "recover", "orders/0", "--accept-loss", "--dry-run"}, "exclude"},
		{[]string{"topic", "add-partitions", "orders"}, "--partitions is missing"},
	} {
		stdout, stderr, exit := run(t, nil, c.args...)
		if exit != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q, want %q", c.args, exit, stdout, stderr, c.want)
		}
	}
}

func TestGroupsWithoutCommandShowHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"topic"}, {"log"}} {
		stdout, stderr, exit := run(t, nil, args...)
		if exit != 2 || stdout != "" || !strings.Contains(stderr, "Available Commands") {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", args, exit, stdout, stderr)
		}
	}
	if stdout, _, exit := run(t, nil, "topic", "--help"); exit != 0 || !strings.Contains(stdout, "Available Commands") {
		t.Errorf("--help: exit %d, stdout %q", exit, stdout)
	}
}

// Global flags stand before or after the command, and the environment is
// below them.
func TestGlobalFlagsAnywhere(t *testing.T) {
	for _, c := range []struct {
		environ, args []string
		want          string
	}{
		{nil, []string{"--addr", "127.0.0.1:1", "topic", "list"}, "127.0.0.1:1"},
		{nil, []string{"topic", "--addr", "127.0.0.1:1", "list"}, "127.0.0.1:1"},
		{nil, []string{"topic", "list", "--addr=127.0.0.1:1"}, "127.0.0.1:1"},
		{nil, []string{"topic", "list", "--addr=127.0.0.1:1,:2"}, "any of 127.0.0.1:1, 127.0.0.1:2"},
		{nil, []string{"consume", "t", "--addr=127.0.0.1:1,:2"}, "any of 127.0.0.1:1, 127.0.0.1:2"},
		{[]string{"MILLSTREAM_ADDR=127.0.0.1:1"}, []string{"topic", "list"}, "127.0.0.1:1"},
		{[]string{"MILLSTREAM_ADDR=127.0.0.1:2"}, []string{"topic", "list", "--addr", ":1"}, "127.0.0.1:1"},
		{nil, []string{"--addr", "127.0.0.1:1", "produce", "t"}, "127.0.0.1:1"},
		{nil, []string{"--addr", "127.0.0.1:1", "consume", "t"}, "127.0.0.1:1"},
		{nil, []string{"--addr", "127.0.0.1:1", "api", "list"}, "127.0.0.1:1"},
		{nil, []string{"--addr", "127.0.0.1:1", "bench", "produce", "--topic", "t"}, "127.0.0.1:1"},
	} {
		stdout, stderr, exit := run(t, c.environ, c.args...)
		want := "error: cannot reach " + c.want + ": "
		if exit != 1 || stdout != "" || !strings.HasPrefix(stderr, want) || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "millstream dev") {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", c.args, exit, stdout, stderr)
		}
	}
	for _, args := range [][]string{{"-o", "json", "version"}, {"version", "-ojson"}, {"version", "--output", "json"}} {
		if stdout, _, exit := run(t, nil, args...); exit != 0 || !strings.HasPrefix(stdout, `{`) {
			t.Errorf("%q: exit %d, stdout %q", args, exit, stdout)
		}
	}
}

func TestVersionInEveryForm(t *testing.T) {
	for output, want := range map[string]string{"table": "VERSION", "json": `"version": "v0"`, "yaml": "version: v0"} {
		if stdout, _, exit := run(t, nil, "version", "-o", output); exit != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit %d, stdout %q", output, exit, stdout)
		}
	}
}

// What config show prints as YAML, a server takes, and every setting comes
// back.
func TestConfigShowRoundTrips(t *testing.T) {
	for _, role := range []string{"dev", "broker", "controller"} {
		args := []string{"config", "show", role, "--data-dir", "d", "-o", "yaml"}
		first, stderr, exit := run(t, nil, args...)
		if exit != 0 {
			t.Fatal(stderr)
		}
		file := t.TempDir() + "/x.yaml"
		writeFile(t, file, first)
		second, stderr, exit := run(t, nil, "config", "show", role, "--config", file, "-o", "yaml")
		if exit != 0 || second != first {
			t.Errorf("%s: exit %d, %s\nfirst:\n%s\nsecond:\n%s", role, exit, stderr, first, second)
		}
	}
}

func TestConfigShowSaysWhereFrom(t *testing.T) {
	stdout, _, exit := run(t, []string{"MILLSTREAM_MAX_SYNCS=7"}, "config", "show", "--log-level", "debug")
	for _, want := range []string{"max-syncs", "MILLSTREAM_MAX_SYNCS", "--log-level", "debug"} {
		if exit != 0 || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, no %q in\n%s", exit, want, stdout)
		}
	}
	if _, stderr, exit := run(t, []string{"MILLSTREAM_MAX_SYNC=7"}, "config", "show"); exit != 2 || !strings.Contains(stderr, "MILLSTREAM_MAX_SYNCS") {
		t.Errorf("exit %d, stderr %q", exit, stderr)
	}
}
