package history

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
)

// Reader reads the files of all recorders as one sequence in the order of time.
// Of events of the same time those of brokers come first: what a broker wrote
// down before it answered is before the answer.
//
// Memory is bounded by a few thousand events for each recorder.
type Reader struct {
	sources []*source
	next    byTime // sources that have an event
	given   *source
	stop    chan struct{} // closed by Close
	running sync.WaitGroup
	close   sync.Once
}

// Open finds the files in a directory and reads their first lines.
func Open(dir string) (*Reader, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	byName := map[string]*source{}
	r := &Reader{stop: make(chan struct{})}
	run := ""                   // of the files so far
	for _, e := range entries { // in the order of names, so that files of a recorder are
		m := fileName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		s := byName[m[1]]
		if s == nil {
			if len(r.sources) == math.MaxUint16 {
				return nil, fmt.Errorf("%s has more than %d recorders", dir, math.MaxUint16)
			}
			s = &source{dir: dir, index: uint16(len(r.sources)), out: make(chan []Event, ahead)}
			s.Name = m[1]
			byName[m[1]] = s
			r.sources = append(r.sources, s)
		}
		if n, _ := strconv.Atoi(m[2]); n != len(s.files) || n > math.MaxUint16 {
			return nil, fmt.Errorf("%s: file %06d of recorder %s is missing", dir, len(s.files), m[1])
		}
		s.files = append(s.files, e.Name())
		h, present, err := s.header(e.Name())
		if err != nil {
			return nil, err
		}
		if !present {
			continue
		}
		if h.Name != m[1] || int(h.File) != len(s.files)-1 {
			return nil, &FormatError{e.Name(), 1, fmt.Sprintf("the file was written as number %d of recorder %s", h.File, h.Name)}
		}
		if run == "" {
			run = h.Run
		}
		if h.Run != run {
			return nil, &FormatError{e.Name(), 1, fmt.Sprintf("run %q; other files are of run %q", h.Run, run)}
		}
		s.Recorder = h
	}
	if len(r.sources) == 0 {
		return nil, fmt.Errorf("%s holds no files of a history (<recorder>.<6 digits>%s)", dir, suffix)
	}
	for _, s := range r.sources {
		r.running.Add(1)
		go func() {
			defer r.running.Done()
			s.run(r.stop)
		}()
	}
	return r, nil
}

// Recorders returns who has written the history; Location.Source is an index
// into it.
func (r *Reader) Recorders() []Recorder {
	out := make([]Recorder, len(r.sources))
	for i, s := range r.sources {
		out[i] = s.Recorder
	}
	return out
}

// Next returns the next event, or io.EOF. What it returns stays as it is.
func (r *Reader) Next() (*Event, error) {
	if r.given == nil && r.next == nil { // the first call
		r.next = make(byTime, 0, len(r.sources))
		for _, s := range r.sources {
			if err := r.refill(s); err != nil {
				return nil, err
			}
			if len(s.events) > 0 {
				r.next = append(r.next, s)
			}
		}
		heap.Init(&r.next)
	} else if s := r.given; s != nil { // it is still the first in the heap
		if s.events = s.events[1:]; len(s.events) == 0 {
			if err := r.refill(s); err != nil {
				return nil, err
			}
		}
		if len(s.events) > 0 {
			heap.Fix(&r.next, 0)
		} else {
			heap.Pop(&r.next)
		}
	}
	r.given = nil
	if len(r.next) == 0 {
		return nil, io.EOF
	}
	r.given = r.next[0]
	return &r.given.events[0], nil
}

// refill waits for more events of a source, or its end.
func (r *Reader) refill(s *source) error {
	s.events = <-s.out
	if s.events == nil && s.err != nil && !errors.Is(s.err, errClosed) {
		return s.err
	}
	return nil
}

// Where says where an event stands, for people.
func (r *Reader) Where(l Location) string {
	return fmt.Sprintf("%s:%d", r.sources[l.Source].files[l.File], l.Line)
}

// Close ends the goroutines of the reader and waits for them.
func (r *Reader) Close() {
	r.close.Do(func() { close(r.stop) })
	r.running.Wait()
}

// byTime is a heap of sources that have an event.
type byTime []*source

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return Compare(h[i].key(), h[j].key()) < 0 }
func (h byTime) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push adds a source.
func (h *byTime) Push(x any) { *h = append(*h, x.(*source)) }

// Pop takes the last one.
func (h *byTime) Pop() any {
	old := *h
	s := old[len(old)-1]
	*h = slices.Delete(old, len(old)-1, len(old))
	return s
}

func (s *source) key() Key { return Key{s.events[0].T, s.Role, s.events[0].At} }

// Key is what the sequence of a history is ordered by.
type Key struct {
	T    int64
	Role Role
	At   Location
}

// Compare orders events.
func Compare(a, b Key) int {
	rank := func(r Role) int {
		if r == RoleClient {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.T, b.T), cmp.Compare(rank(a.Role), rank(b.Role)), cmp.Compare(a.At.Source, b.At.Source),
		cmp.Compare(a.At.File, b.At.File), cmp.Compare(a.At.Line, b.At.Line))
}
