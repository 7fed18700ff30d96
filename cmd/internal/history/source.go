package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxLine bounds a line: a dump or a frame of many batches is the longest.
const maxLine = 16 << 20

// chunk is how many events go from a source to the reader at once, and ahead
// how many such chunks wait there.
const (
	chunk = 256
	ahead = 4
)

// FormatError says what is wrong with a file of a history.
type FormatError struct {
	File string
	Line uint32
	Why  string
}

// Error says where and what.
func (e *FormatError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Why) }

// source is the files of one recorder.
//
// Its goroutine (run) sends chunks and closes out; err is written before out
// is closed, and read after.
type source struct {
	Recorder
	dir   string
	index uint16
	files []string

	out chan []Event // capacity ahead
	err error

	events []Event // received, not given out yet
}

// header reads the first line of a file. A file that holds no whole line, left
// by a process that was killed as it began, has none.
func (s *source) header(name string) (r Recorder, present bool, err error) {
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return r, false, err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	line, err := bufio.NewReader(io.LimitReader(f, maxLine)).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return r, false, &FormatError{name, 1, err.Error()}
	}
	if e.Kind != RecorderBegin || e.Recorder == nil {
		return r, false, &FormatError{name, 1, "a file begins with " + string(RecorderBegin)}
	}
	if e.Recorder.Version != Version {
		return r, false, &FormatError{name, 1, fmt.Sprintf("format version %d is not known, only %d", e.Recorder.Version, Version)}
	}
	return *e.Recorder, true, nil
}

// run reads the files until their end, an error, or stop is closed.
func (s *source) run(stop <-chan struct{}) {
	defer close(s.out)
	send := func(events []Event) bool {
		select {
		case s.out <- events:
			return true
		case <-stop:
			return false
		}
	}
	events := make([]Event, 0, chunk)
	decode := newDecoder()
	var last int64
	for n, name := range s.files {
		err := s.lines(name, func(line []byte, number uint32) error {
			events = append(events, Event{})
			e := &events[len(events)-1]
			if err := decode.decode(line, e); err != nil {
				return &FormatError{name, number, err.Error()}
			}
			e.At = Location{Source: s.index, File: uint16(n), Line: number}
			if e.T < last {
				return &FormatError{name, number, fmt.Sprintf("time %d is before that of the event before it, %d", e.T, last)}
			}
			last = e.T
			if len(events) == chunk {
				if !send(events) {
					return errClosed
				}
				events = make([]Event, 0, chunk)
			}
			return nil
		})
		if err != nil {
			s.err = err
			return
		}
	}
	if len(events) > 0 {
		send(events)
	}
}

// lines calls visit with each whole line. What follows the last newline was
// being written when its recorder was killed, and is left out.
func (s *source) lines(name string, visit func(line []byte, number uint32) error) error {
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	in := bufio.NewReaderSize(f, 256<<10)
	var long []byte // a line that is longer than the buffer of in
	for number := uint32(1); ; number++ {
		line, err := in.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) && len(long)+len(line) <= maxLine {
			long = append(long, line...)
			line, err = in.ReadSlice('\n')
		}
		if len(long)+len(line) > maxLine {
			return &FormatError{name, number, fmt.Sprintf("a line has more than %d bytes", maxLine)}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(long) > 0 {
			line = append(long, line...)
			long = long[:0]
		}
		if err := visit(bytes.TrimSuffix(line, []byte("\n")), number); err != nil {
			return err
		}
	}
}
