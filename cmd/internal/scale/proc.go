package scale

import (
	"fmt"
	"os"
	"strings"

	"github.com/millstream-io/millstream/cmd/internal/proc"
)

// footprint says what a process holds.
func footprint(pid int) (measurement, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	descriptors, err := os.ReadDir(dir + "fd")
	if err != nil {
		return nil, err
	}
	maps, err := os.ReadFile(dir + "maps")
	if err != nil {
		return nil, err
	}
	memory, err := proc.MemoryMiB(pid)
	if err != nil {
		return nil, err
	}
	return measurement{
		{"descriptors", float64(len(descriptors))}, {"maps", float64(strings.Count(string(maps), "\n"))}, {"memory_mib", memory},
	}, nil
}

// diskReads returns how many MB a process has had read from disks.
func diskReads(pid int) (float64, error) {
	n, err := proc.NumberIn(fmt.Sprintf("/proc/%d/io", pid), "read_bytes:")
	return n / 1e6, err
}
