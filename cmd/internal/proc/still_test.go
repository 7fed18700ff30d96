package proc

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

func TestAStoppedProcessStandsStill(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	pid := cmd.Process.Pid
	if moving, err := moves(pid); err != nil || !moving {
		t.Fatalf("before it was stopped it stands still: %v", err)
	}
	for range 100 {
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := AwaitStill(pid); err != nil {
			t.Fatal(err)
		}
		if moving, err := moves(pid); err != nil || moving {
			t.Fatalf("it moves: %v", err)
		}
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := AwaitStill(pid); err != nil {
		t.Errorf("a dead one moves: %v", err)
	}
}
