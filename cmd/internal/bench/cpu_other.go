//go:build !linux

package bench

// cpuSeconds refuses: only Linux tells.
func cpuSeconds(pids []int) (float64, error) {
	if len(pids) == 0 {
		return 0, nil
	}
	return 0, &OptionError{"server-pids", "CPU time of other processes is known on Linux only"}
}
