// Package proc reads what the system knows of processes: the time that they
// have used, the memory that they hold (Linux tells; elsewhere ErrUnsupported),
// and what servers say of themselves in their metrics.
//
// It holds no state and starts no goroutine.
package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ErrUnsupported says that this system does not tell of other processes.
var ErrUnsupported = errors.New("known on Linux only")

// MemoryMiB returns RssAnon and RssShmem of a process: mapped files are page
// cache, and not counted.
func MemoryMiB(pid int) (float64, error) {
	kb := 0.0
	for _, name := range []string{"RssAnon:", "RssShmem:"} {
		n, err := NumberIn(fmt.Sprintf("/proc/%d/status", pid), name)
		if err != nil {
			return 0, err
		}
		kb += n
	}
	return kb / 1024, nil
}

// NumberIn returns the number of a file, as Number does.
func NumberIn(file, name string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return Number(string(text), name)
}

// Number returns what follows the name at the beginning of a line: `name:` in
// /proc, there may be a unit; `name ` in metrics.
func Number(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("there is no %q", name)
}
