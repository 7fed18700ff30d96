package broker

import "os"

// BootID returns what is the same until the machine is started again; zero if
// that cannot be told.
func BootID() ID16 {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ID16{}
	}
	return parseBootID(string(b))
}
