package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// stillWithin is how long a process may take to stand still.
const stillWithin = 5 * time.Second

// AwaitStill waits until a process that was sent SIGSTOP runs no more. A call of
// the system may be under way in it still; it does nothing with what that
// returns. Without a /proc it waits for nothing.
//
// WHY: the signal is only a request, and a thread goes on until it has seen it.
func AwaitStill(pid int) error {
	for begun := time.Now(); ; <-time.After(100 * time.Microsecond) {
		moving, err := moves(pid)
		if err != nil || !moving {
			return err
		}
		if time.Since(begun) > stillWithin {
			return fmt.Errorf("process %d goes on %v after it was stopped", pid, stillWithin)
		}
	}
}

// moves tells whether a thread of a process may execute its program.
func moves(pid int) (bool, error) {
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "stat"))
	if err != nil {
		return false, err
	}
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The name in parentheses may contain anything; the state follows it.
		_, rest, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
		if !ok || rest == "" {
			return false, fmt.Errorf("%s: %q", name, text)
		}
		switch rest[0] {
		case 'T', 't', 'D', 'Z', 'X': // stopped, in a call that cannot be interrupted, dead
		default:
			return true, nil
		}
	}
	return false, nil
}
