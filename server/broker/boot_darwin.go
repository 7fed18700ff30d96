package broker

import "golang.org/x/sys/unix"

// BootID returns what is the same until the machine is started again; zero if
// that cannot be told.
func BootID() ID16 {
	s, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ID16{}
	}
	return parseBootID(s)
}
