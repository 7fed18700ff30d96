package scale

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// footprint says what a process holds. Memory is RssAnon and RssShmem: mapped
// files are page cache.
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
	kb := 0.0
	for _, name := range []string{"RssAnon:", "RssShmem:"} {
		n, err := numberIn(dir+"status", name)
		if err != nil {
			return nil, err
		}
		kb += n
	}
	return measurement{
		{"descriptors", float64(len(descriptors))}, {"maps", float64(strings.Count(string(maps), "\n"))}, {"memory_mib", kb / 1024},
	}, nil
}

// diskReads returns how many MB a process has had read from disks.
func diskReads(pid int) (float64, error) {
	n, err := numberIn(fmt.Sprintf("/proc/%d/io", pid), "read_bytes:")
	return n / 1e6, err
}

// numberIn returns the number of a file.
func numberIn(file, name string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return number(string(text), name)
}

// number returns what follows the name at the beginning of a line: `name:` in
// /proc, there may be a unit; `name ` in metrics.
func number(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("there is no %q", name)
}
