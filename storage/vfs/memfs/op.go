package memfs

import "fmt"

// Kind is a kind of operation that changes a file system or makes a change
// durable.
type Kind string

// The kinds of operations.
const (
	Create    Kind = "create"
	Write     Kind = "write"
	Truncate  Kind = "truncate"
	Sync      Kind = "sync"
	Rename    Kind = "rename"
	Remove    Kind = "remove"
	RemoveAll Kind = "removeall"
	Mkdir     Kind = "mkdir"
	SyncDir   Kind = "syncdir"
)

// Op is an operation that succeeded.
type Op struct {
	Kind   Kind
	Name   string // absolute
	To     string // of a rename
	Offset int64  // of a write; the length of a truncate
	Bytes  int64  // of a write
}

// String is the operation on one line, as golden files have it.
func (o Op) String() string {
	switch o.Kind {
	case Write:
		return fmt.Sprintf("write %s [%d, %d)", o.Name, o.Offset, o.Offset+o.Bytes)
	case Truncate:
		return fmt.Sprintf("truncate %s %d", o.Name, o.Offset)
	case Rename:
		return fmt.Sprintf("rename %s %s", o.Name, o.To)
	default:
		return fmt.Sprintf("%s %s", o.Kind, o.Name)
	}
}

// SetHook sets a function that is called after each operation, on the
// goroutine that made it and before it returns there. It may Clone and Crash
// the file system. It is not copied by them.
func (f *FS) SetHook(hook func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// StartLog begins to keep operations for TakeLog.
func (f *FS) StartLog() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logging = true
}

// TakeLog returns the operations since StartLog or the last TakeLog.
func (f *FS) TakeLog() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log = nil
	return log
}

// done tells of operations that succeeded.
//
// REQUIRES: f.mu is not held.
func (f *FS) done(ops ...Op) {
	if len(ops) == 0 {
		return
	}
	f.mu.RLock()
	hook, logging := f.hook, f.logging
	f.mu.RUnlock()
	if logging {
		f.mu.Lock()
		f.log = append(f.log, ops...)
		f.mu.Unlock()
	}
	if hook != nil {
		for _, op := range ops {
			hook(op)
		}
	}
}
