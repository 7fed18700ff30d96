//go:build !linux

package proc

// CPUSeconds refuses, unless there is nothing to ask.
func CPUSeconds(pids []int) (float64, error) {
	if len(pids) == 0 {
		return 0, nil
	}
	return 0, ErrUnsupported
}
