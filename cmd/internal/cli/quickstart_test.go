package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/server/ports"
)

// step is a block of commands of a page, and the output that the page shows
// for it.
type step struct {
	script string
	shown  []string // lines; … stands for anything
}

var fenced = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// stepsOf returns the sh blocks of a page, each with the text block behind it.
func stepsOf(page string) []step {
	var steps []step
	for _, block := range fenced.FindAllStringSubmatch(page, -1) {
		switch block[1] {
		case "sh":
			steps = append(steps, step{script: block[2]})
		case "text":
			last := &steps[len(steps)-1]
			last.shown = append(last.shown, strings.Split(strings.TrimSpace(block[2]), "\n")...)
		}
	}
	return steps
}

// tools are what a step may need beside a shell.
var tools = []string{"curl", "grpcurl", "protoc"}

// missing returns a tool that the step needs and that is not there.
func (s *step) missing() string {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil && regexp.MustCompile(`\b`+tool+` -`).MatchString(s.script) {
			return tool
		}
	}
	return ""
}

// The quickstart does what it says: its blocks are run in order, in one shell,
// and what they print is what it shows.
func TestQuickstart(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not there")
		}
	}
	page, err := os.ReadFile("../../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(root, "proto"), filepath.Join(dir, "proto")); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test program is the command under its other name.
	writeFile(t, filepath.Join(dir, "bin", "millstream"), fmt.Sprintf("#!/bin/sh\nexec env TEST_AS_MILLSTREAM=1 '%s' \"$@\"\n", self))
	if err := os.Chmod(filepath.Join(dir, "bin", "millstream"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The page's commands cannot be told to find a free one.
	grpc, err := ports.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	http, err := ports.Loopback(grpc)
	if err != nil {
		t.Fatal(err)
	}
	steps := stepsOf(string(page))
	var script strings.Builder
	script.WriteString("set -euo pipefail\ntrap 'kill -9 $(cat dev.pid) 2>/dev/null || true' EXIT\n")
	const mark = "=== step %d\n"
	for i, s := range steps {
		if tool := s.missing(); tool != "" {
			t.Logf("step %d is left out: %s is not there", i, tool)
			steps[i].shown = nil
			continue
		}
		fmt.Fprintf(&script, "printf '"+strings.ReplaceAll(mark, "\n", `\n`)+"'\n%s", i, s.script)
	}
	text := strings.NewReplacer("127.0.0.1:9650", grpc, "127.0.0.1:9651", http).Replace(script.String())
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", text)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // so that its trap runs
	cmd.WaitDelay = patience
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), quickExit, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"),
		"MILLSTREAM_ADDR="+grpc, "MILLSTREAM_GRPC_ADDR="+grpc, "MILLSTREAM_HTTP_ADDR="+http)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), errs.String())
	}
	for i, s := range steps {
		_, rest, ok := strings.Cut(out.String(), fmt.Sprintf(mark, i))
		if !ok && len(s.shown) > 0 {
			t.Errorf("step %d was not run", i)
		}
		printed, _, _ := strings.Cut(rest, "=== step ")
		for _, line := range s.shown {
			if !pattern(line).MatchString(printed) {
				t.Errorf("step %d: no line %q in\n%s", i, line, printed)
			}
		}
	}
}

// pattern fits a line of output that a page shows as line.
func pattern(line string) *regexp.Regexp {
	parts := strings.Split(strings.TrimSpace(line), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?m)^\s*` + strings.Join(parts, ".*") + `\s*$`)
}
