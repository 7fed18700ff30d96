package owner

import (
	"errors"
	"io/fs"
	"os/exec"
	"testing"
)

func TestAProcessIsItselfAndNoOther(t *testing.T) {
	p, err := Self()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no /proc")
	}
	if err != nil || !p.Lives() {
		t.Fatalf("%v does not live: %v", p, err)
	}
	if again, ok := Parse(p.String()); !ok || again != p {
		t.Errorf("read %v", again)
	}
	before := Process{p.pid, p.started - 1}
	if before.Lives() {
		t.Error("one that was started before lives under the same number")
	}
	if _, ok := Parse("eth0"); ok {
		t.Error("what is of nobody was read")
	}
}

func TestAProcessThatHasEndedDoesNotLive(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	started, err := startOf(cmd.Process.Pid)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no /proc")
	}
	p := Process{cmd.Process.Pid, started}
	if err != nil || !p.Lives() {
		t.Errorf("%v does not live: %v", p, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if p.Lives() {
		t.Errorf("%v lives, and has ended", p)
	}
}
