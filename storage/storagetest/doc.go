// Package storagetest is what tests of logs have in common: batches to append,
// a model that says what a log must hold, hands that damage files, and a disk
// that dies after every operation.
//
// It owns no test: it is imported by tests. It checks by reading through the
// same calls as everyone, and compares with what was handed in, byte by byte.
//
// It starts no goroutine.
package storagetest
