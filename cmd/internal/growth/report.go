package growth

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Phase is what clients noticed while something went on.
type Phase struct {
	Name    string  `json:"phase"`
	Records int     `json:"records"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	// WorstSecond is the greatest p99 of a second of the phase: a long phase
	// hides a bad second in its p99.
	WorstSecond float64 `json:"worst_second_p99_ms"`
	Max         float64 `json:"max_ms"`
	Gap         float64 `json:"longest_gap_ms"`
	Duration    float64 `json:"seconds,omitempty"`
}

func (l *load) report(name string, took time.Duration) Phase {
	seconds := l.seconds(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]time.Duration, 0, len(l.latencies[name]))
	for _, s := range l.latencies[name] {
		all = append(all, s.took)
	}
	slices.Sort(all)
	p := Phase{
		Name: name, Records: len(all), P50: quantile(all, 0.5), P99: quantile(all, 0.99), Max: quantile(all, 1),
		Gap: ms(l.gaps[name]), Duration: took.Seconds(),
	}
	for _, s := range seconds {
		p.WorstSecond = max(p.WorstSecond, quantile(s.took, 0.99))
	}
	return p
}

// quantile of sorted times, in milliseconds; 0: there are none.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return ms(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))])
}

// second is what was noticed in a second of a phase, and what happened in it.
type second struct {
	took   []time.Duration // sorted
	events []event
}

// seconds returns the seconds of a phase, as far as records were acknowledged
// or something happened.
func (l *load) seconds(phase string) []second {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []second
	of := func(at time.Duration) *second {
		n := int(at / time.Second)
		for len(all) <= n {
			all = append(all, second{})
		}
		return &all[n]
	}
	for _, s := range l.latencies[phase] {
		in := of(s.at)
		in.took = append(in.took, s.took)
	}
	for _, e := range l.events[phase] {
		in := of(e.at)
		in.events = append(in.events, e)
	}
	for _, s := range all {
		slices.Sort(s.took)
	}
	return all
}

// String says it in a line: how often each thing happened, in the order of the
// kinds.
func (s second) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%6d records  p50 %6.1f ms  p99 %7.1f ms  max %8.1f ms", len(s.took), quantile(s.took, 0.5), quantile(s.took, 0.99), quantile(s.took, 1))
	var count [kinds]int
	for _, e := range s.events {
		count[e.kind]++
	}
	for k, n := range count {
		if n > 0 {
			fmt.Fprintf(&b, "  %d %s", n, kind(k))
		}
	}
	return b.String()
}
