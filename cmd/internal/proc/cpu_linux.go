package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticks is the unit of /proc/PID/stat in a second: USER_HZ, 100 on every
// platform that Go runs on.
const ticks = 100

// CPUSeconds returns the user and system time that processes have used.
func CPUSeconds(pids []int) (float64, error) {
	var sum uint64
	for _, pid := range pids {
		name := fmt.Sprintf("/proc/%d/stat", pid)
		b, err := os.ReadFile(name)
		if err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		// The name of the program, in parentheses, may hold anything.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) < 13 {
			return 0, fmt.Errorf("CPU time of process %d: %s has %d fields", pid, name, len(fields))
		}
		for _, f := range fields[11:13] {
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
			}
			sum += n
		}
	}
	return float64(sum) / ticks, nil
}
