package broker

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// MadeAt returns what tells a file from a copy of it: when it was made, as the
// file system says; empty if it does not. It stays when the file is written to,
// moved or given to somebody else.
func MadeAt(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Btim.Sec == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%09d", st.Btim.Sec, st.Btim.Nsec)
}
