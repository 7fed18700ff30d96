//go:build !linux

package scale

import "errors"

var errNotLinux = errors.New("what is in the page cache is known on Linux only")

func evict([]string) error                { return errNotLinux }
func warm([]string) error                 { return errNotLinux }
func residency([]string) (float64, error) { return 0, errNotLinux }
