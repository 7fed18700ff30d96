package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/devserver"
	"github.com/millstream-io/millstream/cmd/internal/disk"
)

// A server whose disk turns read-only ends with an error that says so and what to
// do, and has everything when the disk is repaired.
func TestDevOnADiskThatTurnsReadOnly(t *testing.T) {
	root := t.TempDir()
	shelf, err := disk.Open(root)
	if _, ok := errors.AsType[*disk.UnavailableError](err); ok {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := shelf.Close(); err != nil {
			t.Error(err)
		}
	}()
	d, err := shelf.Make("data", 256<<20)
	if _, ok := errors.AsType[*disk.UnavailableError](err); ok {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(root, "millstream")
	writeFile(t, binary, fmt.Sprintf("#!/bin/sh\nexec env TEST_AS_MILLSTREAM=1 %s '%s' \"$@\"\n", quickExit, self))
	if err := os.Chmod(binary, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	run := func(s *devserver.Server, in string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, binary, append([]string{"--addr", s.GRPCAddr}, args...)...)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.Output()
		return string(out), err
	}
	start := func() *devserver.Server {
		s, err := devserver.Start(ctx, binary, filepath.Join(d.Dir, "dev"), "--topics", "t:1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		return s
	}
	s := start()
	var lines strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&lines, "record %d\n", i)
	}
	if out, err := run(s, lines.String(), "produce", "t"); err != nil {
		t.Fatal(out, err)
	}

	if err := d.Fail(); err != nil {
		t.Skipf("the disk cannot be made to fail: %v", err)
	}
	if out, err := run(s, "", "topic", "create", "another"); err == nil {
		t.Errorf("a topic was created: %s", out)
	}
	bounded, end := context.WithTimeout(ctx, patience)
	defer end()
	err = s.Wait(bounded)
	s.Kill()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitFailed {
		t.Errorf("the server: %v", err)
	}
	out := s.Output()
	_, said, _ := strings.Cut(out, "\nerror: ")
	if !strings.Contains(said, d.Dir) || !strings.Contains(said, "read-only") || !strings.Contains(said, "start again") || strings.Count(said, "\n") != 1 {
		t.Errorf("it does not say what is wrong, and what to do:\n%s", out)
	}
	if strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
		t.Errorf("it panics:\n%s", out)
	}
	t.Log(out)

	if err := d.Repair(); err != nil {
		t.Fatal(err)
	}
	s = start()
	if got, err := run(s, "", "consume", "t", "--until", "end"); err != nil || got != lines.String() {
		t.Errorf("%d bytes of %d are there: %v", len(got), lines.Len(), err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}
