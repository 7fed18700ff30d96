//go:build !linux

package history

import "time"

// began is when the process did; it holds both clocks.
var began = time.Now()

// monotonic returns the wall clock in ns as it was when the process began, plus
// what has passed since: other processes agree as far as their wall clocks did.
func monotonic() int64 { return began.UnixNano() + int64(time.Since(began)) }
