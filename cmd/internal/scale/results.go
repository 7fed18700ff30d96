package scale

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// field is one number or word of a measurement.
type field struct {
	name  string
	value any
}

// measurement is in the order of printing. What was measured is float64; the
// rest says under which conditions.
type measurement []field

// MarshalJSON keeps the order.
func (m measurement) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, f := range m {
		if n, ok := f.value.(float64); ok {
			f.value = math.Round(n*1000) / 1000
		}
		text, err := json.Marshal(f.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		fmt.Fprintf(&b, "%s%q:%s", map[bool]string{true: "{", false: ","}[i == 0], f.name, text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// conditions are what the rounds of a measurement have in common, by name or
// by value.
func (m measurement) conditions(names bool) (line string) {
	for _, f := range m {
		if _, measured := f.value.(float64); measured || f.name == "round" {
			continue
		}
		if names {
			f.value = f.name
		}
		line += fmt.Sprintf("%v\t", f.value)
	}
	return line
}

// results are all measurements so far.
type results struct {
	out io.Writer
	all []measurement
}

// add prints a measurement.
func (r *results) add(m measurement) error {
	r.all = append(r.all, m)
	return json.NewEncoder(r.out).Encode(m)
}

// table prints a line for each set of conditions, with medians.
func (r *results) table(w io.Writer) error {
	var text bytes.Buffer
	printed, header := map[string]bool{}, ""
	for _, m := range r.all {
		line, names := m.conditions(false), m.conditions(true)
		if printed[line] {
			continue
		}
		printed[line] = true
		for i, f := range m {
			if _, ok := f.value.(float64); ok {
				names += f.name + "\t"
				line += fmt.Sprintf("%.6g\t", math.Round(1000*r.median(m.conditions(false), i))/1000)
			}
		}
		if names != header {
			fmt.Fprintf(&text, "\n%s\n", names)
			header = names
		}
		fmt.Fprintln(&text, line)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := text.WriteTo(tw); err != nil {
		return err
	}
	return tw.Flush()
}

// median returns that of field i over the rounds of a measurement.
func (r *results) median(conditions string, i int) float64 {
	var values []float64
	for _, m := range r.all {
		if m.conditions(false) == conditions {
			values = append(values, m[i].value.(float64))
		}
	}
	slices.Sort(values)
	return quantile(values, 0.5)
}

// quantile returns the least of the sorted values that a fraction q of them
// does not exceed; zero if there are none.
func quantile[T any](sorted []T, q float64) (v T) {
	if len(sorted) == 0 {
		return v
	}
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
