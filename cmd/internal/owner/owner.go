// Package owner says of what tests make on a machine, and what stays when they
// are killed, which process it is of, so that the next can remove it.
package owner

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Process is a process: its number, and when it was started, since numbers are
// used again.
type Process struct {
	pid     int
	started uint64 // ticks after boot
}

const form = "test of process %d since %d"

// Self is this process. It is known where there is /proc.
func Self() (Process, error) {
	started, err := startOf(os.Getpid())
	return Process{os.Getpid(), started}, err
}

// Parse reads what String gave.
func Parse(s string) (p Process, ok bool) {
	_, err := fmt.Sscanf(s, form, &p.pid, &p.started)
	return p, err == nil
}

// String is a line of text.
func (p Process) String() string { return fmt.Sprintf(form, p.pid, p.started) }

// Lives tells whether the process is there still.
func (p Process) Lives() bool {
	started, err := startOf(p.pid)
	return err == nil && started == p.started
}

// startOf returns when a process was started.
func startOf(pid int) (uint64, error) {
	name := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	// The name of the program stands in parentheses and may have any characters.
	// The start is the 20th field after it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("%s has %d fields after the name", name, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
