package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	suffix     = ".ndjson"
	fileBytes  = 64 << 20 // a file that an editor still opens
	bufferSize = 64 << 10
)

var (
	names    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	fileName = regexp.MustCompile(`^([a-z0-9][a-z0-9-]{0,63})\.([0-9]{6})\.ndjson$`)
)

// errClosed is what a closed writer answers.
var errClosed = errors.New("history: the writer is closed")

// Options say who records, and where.
type Options struct {
	// Dir is the directory of the history; it is made if it is not there.
	Dir string
	// Name of the recorder: lower case letters, digits and -. A process that is
	// started again goes on under its name in a new file.
	Name   string
	Role   Role
	Broker int32
	Run    string
	// FileBytes is the size at which the next file begins; 0: 64 MiB.
	FileBytes int64
	// Now is the clock of the run; nil: that of the host. Where it can stand
	// still between two events of different recorders, give Ascending of it.
	Now func() int64
	// Wall is the wall clock; nil: that of the host.
	Wall func() time.Time
}

// Writer writes the events of one recorder.
//
// INVARIANT: the bytes handed to the kernel are a prefix of the lines recorded,
// and hold every needed event whose Record has returned. The kernel keeps them
// when the process is killed.
type Writer struct {
	o Options

	mu   sync.Mutex // guards what follows
	file *os.File
	n    uint32 // number of file
	size int64  // of file, with what is in buf
	buf  []byte // whole lines that the kernel does not have yet
	last int64  // time of the last event
	err  error  // the first error, or errClosed; nothing is written after it
}

// Create begins a file after those that the recorder has left before.
func Create(o Options) (*Writer, error) {
	if !names.MatchString(o.Name) {
		return nil, fmt.Errorf("history: name %q: must be lower case letters, digits and -", o.Name)
	}
	if o.FileBytes <= 0 {
		o.FileBytes = fileBytes
	}
	if o.Now == nil {
		o.Now = monotonic
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{o: o}
	for _, e := range entries {
		if m := fileName.FindStringSubmatch(e.Name()); m != nil && m[1] == o.Name {
			n, _ := strconv.ParseUint(m[2], 10, 32) // six digits
			w.n = max(w.n, uint32(n)+1)
		}
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

// open begins file n. REQUIRES: mu, or nobody else has w yet.
func (w *Writer) open() error {
	path := filepath.Join(w.o.Dir, fmt.Sprintf("%s.%06d%s", w.o.Name, w.n, suffix))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w.file, w.size = f, 0
	r := Recorder{Version: Version, Name: w.o.Name, Role: w.o.Role, Broker: w.o.Broker, Run: w.o.Run, File: w.n}
	return w.append(&Event{Kind: RecorderBegin, Recorder: &r})
}

// Record writes an event down; its time is set here. What it returns, and
// every later call too, is the first error of the file: the history is then not
// whole, and whoever records has to say so.
func (w *Writer) Record(e *Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if w.size >= w.o.FileBytes {
		if w.err = w.next(); w.err != nil {
			return w.err
		}
	}
	w.err = w.append(e)
	return w.err
}

// append puts a line into the buffer, and the buffer into the file if it is
// time. REQUIRES: mu.
func (w *Writer) append(e *Event) error {
	stamped := *e
	w.last = max(w.last, w.o.Now())
	stamped.T, stamped.Wall = w.last, w.o.Wall().UnixMilli()
	line, err := json.Marshal(&stamped)
	if err != nil {
		return err
	}
	w.buf = append(append(w.buf, line...), '\n')
	w.size += int64(len(line)) + 1
	if e.needed() || len(w.buf) >= bufferSize {
		return w.flush()
	}
	return nil
}

// flush gives the kernel what it does not have. REQUIRES: mu.
func (w *Writer) flush() error {
	_, err := w.file.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// next goes on in another file. REQUIRES: mu.
func (w *Writer) next() error {
	if err := errors.Join(w.flush(), w.file.Close()); err != nil {
		return err
	}
	w.n++
	return w.open()
}

// Close ends the file; what is recorded later is refused.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(w.err, errClosed) {
		return nil
	}
	err := w.err
	if err == nil {
		err = w.append(&Event{Kind: RecorderEnd})
	}
	w.err = errClosed
	return errors.Join(err, w.file.Close())
}

// Holds tells whether a directory has files of a history.
func Holds(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			return true, nil
		}
	}
	return false, err
}

// Ascending returns a clock that never gives the same time twice, for a run in
// one process whose own clock can stand still. It may be called by all
// recorders of the run at once.
func Ascending(now func() int64) func() int64 {
	var mu sync.Mutex // guards last
	var last int64
	return func() int64 {
		mu.Lock()
		defer mu.Unlock()
		last = max(last+1, now())
		return last
	}
}
