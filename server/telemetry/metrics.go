package telemetry

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
)

// NewRegistry returns a registry that already has the metrics of the Go
// runtime and of the process.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Register registers all collectors or none. A nil registerer takes them all:
// a test need not care.
func Register(reg prometheus.Registerer, cs ...prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	for i, c := range cs {
		if err := reg.Register(c); err != nil {
			for _, done := range cs[:i] {
				reg.Unregister(done)
			}
			return err
		}
	}
	return nil
}

// Metric describes a metric.
type Metric struct {
	Name   string
	Type   string // counter, gauge, histogram, summary or untyped
	Help   string
	Labels []string // in alphabetical order
}

// Catalogue is a registerer that remembers what was registered, so that the
// documentation can list every metric, also those that have no value yet.
type Catalogue struct {
	prometheus.Registerer

	mu         sync.Mutex // guards collectors
	collectors []prometheus.Collector
}

// NewCatalogue returns a catalogue of what is registered through it with reg.
func NewCatalogue(reg prometheus.Registerer) *Catalogue { return &Catalogue{Registerer: reg} }

// Register registers a collector.
func (c *Catalogue) Register(m prometheus.Collector) error {
	if err := c.Registerer.Register(m); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collectors = append(c.collectors, m)
	return nil
}

// MustRegister registers collectors and panics if one is refused.
func (c *Catalogue) MustRegister(ms ...prometheus.Collector) {
	for _, m := range ms {
		if err := c.Register(m); err != nil {
			panic(err)
		}
	}
}

// Metrics returns every metric by name, each once.
func (c *Catalogue) Metrics() ([]Metric, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	byName := make(map[string]Metric)
	for _, col := range c.collectors {
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			col.Describe(descs)
		}()
		types := typesOf(col)
		var errs []error
		for d := range descs {
			m, err := parseDesc(d.String())
			if m.Type = types[d.String()]; m.Type == "" {
				m.Type = typeByName(col, m.Name)
			}
			byName[m.Name] = m
			errs = append(errs, err)
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
	}
	all := make([]Metric, 0, len(byName))
	for _, m := range byName {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Markdown renders metrics as a table.
func Markdown(ms []Metric) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range ms {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, strings.ReplaceAll(m.Help, "|", "\\|"))
	}
	return b.String()
}

// The client library shows what is in a description in no other way than as
// text.
var (
	descPattern  = regexp.MustCompile(`^Desc{fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", unit: "[^"]*", constLabels: {(.*)}, variableLabels: {(.*)}}$`)
	constPattern = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"`)
)

func parseDesc(s string) (Metric, error) {
	g := descPattern.FindStringSubmatch(s)
	if g == nil {
		return Metric{}, fmt.Errorf("metric description %s is not understood", s)
	}
	m := Metric{Name: g[1], Help: strings.ReplaceAll(g[2], `\"`, `"`)}
	for _, l := range constPattern.FindAllStringSubmatch(g[3], -1) {
		m.Labels = append(m.Labels, l[1])
	}
	for l := range strings.SplitSeq(g[4], ",") {
		if l = strings.TrimSpace(l); l != "" {
			m.Labels = append(m.Labels, l)
		}
	}
	slices.Sort(m.Labels)
	return m, nil
}

// typesOf returns the types of a collector's metrics by their descriptions, as
// far as they have values.
func typesOf(c prometheus.Collector) map[string]string {
	metrics := make(chan prometheus.Metric)
	go func() {
		defer close(metrics)
		c.Collect(metrics)
	}()
	types := make(map[string]string)
	for m := range metrics {
		var d dto.Metric
		if err := m.Write(&d); err != nil {
			continue
		}
		kind := "untyped"
		switch {
		case d.Counter != nil:
			kind = "counter"
		case d.Gauge != nil:
			kind = "gauge"
		case d.Histogram != nil:
			kind = "histogram"
		case d.Summary != nil:
			kind = "summary"
		}
		types[m.Desc().String()] = kind
	}
	return types
}

// typeByName returns the type of a metric without values: that of its vector,
// or what its name promises.
func typeByName(c prometheus.Collector, name string) string {
	switch c.(type) {
	case *prometheus.HistogramVec:
		return "histogram"
	case *prometheus.SummaryVec:
		return "summary"
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.GaugeVec:
		return "gauge"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}
