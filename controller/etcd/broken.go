package etcd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"syscall"

	"go.uber.org/zap/zapcore"
)

// BrokenError says that the store has stopped in the midst of something, since
// it could not go on: nearly always because its disk takes nothing any more.
type BrokenError struct {
	// Dir is the directory of the store.
	Dir string
	// What it says itself.
	What string
	// Err is why; nil: it does not say.
	Err error
}

// Error says it for people.
func (e *BrokenError) Error() string {
	s := fmt.Sprintf("the metadata store in %s cannot go on: %s", e.Dir, e.What)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Err }

// breaker is what happens where etcd would end the process, or panic, in a
// goroutine of its own: the first to come there says why, and all who do wait
// there for ever. Nothing is written behind the place, nothing is answered, and
// whoever runs the process ends it in order, with an error that can be read.
//
// WHY they wait and do not end: what is deferred in etcd would go on to write,
// and what is locked stay locked.
type breaker struct {
	dir    string
	lock   *os.File // of the directory: held as long as somebody waits
	logger *slog.Logger

	once   sync.Once
	broken chan struct{} // closed when cause is set
	cause  *BrokenError
}

func newBreaker(dir string, lock *os.File, logger *slog.Logger) *breaker {
	return &breaker{dir: dir, lock: lock, logger: logger, broken: make(chan struct{})}
}

// OnWrite makes breaker a zapcore.CheckWriteHook. It does not return.
func (b *breaker) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	b.note(e, fields)
	select {}
}

// note keeps why the first came there.
func (b *breaker) note(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	b.once.Do(func() {
		b.cause = &BrokenError{Dir: b.dir, What: e.Message}
		for _, f := range fields {
			if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
				b.cause.Err = err
			}
		}
		if !ofTheDisk(b.cause.Err) {
			b.logger.Error("the metadata store cannot go on, and not because of its disk", "err", b.cause, "stack", string(debug.Stack()))
		}
		close(b.broken)
	})
}

// ofTheDisk tells whether an error is of a disk that is full, cannot be written to
// or fails. For anything else somebody has to find out how it came there.
func ofTheDisk(err error) bool {
	for _, e := range [...]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isBroken tells whether somebody has come there.
func (b *breaker) isBroken() bool {
	select {
	case <-b.broken:
		return true
	default:
		return false
	}
}

// unlessBroken calls fn, which may never return if the store breaks: then its
// error is why.
func (b *breaker) unlessBroken(fn func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- fn() }()
	select {
	case err := <-ended:
		return err
	case <-b.broken:
		return b.cause
	}
}
