//go:build !linux

package mmap_test

// readWithoutGuard does nothing where nothing is mapped.
func readWithoutGuard() {}
