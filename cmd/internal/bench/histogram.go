package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// histogram collects durations from any number of goroutines, to three
// digits, up to two minutes.
type histogram struct {
	mu sync.Mutex // guards h
	h  *hdrhistogram.Histogram
}

const (
	longest = 2 * time.Minute
	digits  = 3
)

func newHistogram() *histogram {
	return &histogram{h: hdrhistogram.New(int64(time.Microsecond), int64(longest), digits)}
}

// add counts d; what is longer than the longest counts as that.
func (h *histogram) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.h.RecordValue(int64(min(max(d, 0), longest))); err != nil {
		panic(err) // it is within the bounds
	}
}

func (h *histogram) latency() Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	ms := func(q float64) float64 { return float64(h.h.ValueAtQuantile(q)) / float64(time.Millisecond) }
	return Latency{P50: ms(50), P90: ms(90), P99: ms(99), P999: ms(99.9), Max: float64(h.h.Max()) / float64(time.Millisecond)}
}
