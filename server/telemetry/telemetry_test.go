package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestTextIsOneReadableLine(t *testing.T) {
	var b bytes.Buffer
	log := NewLogger(&b, LogOptions{Format: FormatText})
	log.With("topic", "orders").WithGroup("at").Info("partition opened",
		"partition", 3, "err", errors.New("two\nlines"), "took", 5*time.Millisecond, "empty", "",
		"when", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), slog.Group("file", "name", "x y"))
	log.Debug("not shown")
	log.Warn("evil\x1b[2J\nforged 12:00:00 INFO line")
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %d lines:\n%s", len(lines), b.String())
	}
	const want = `INFO  partition opened topic=orders at.partition=3 at.err="two\nlines" at.took=5ms at.empty="" ` +
		`at.when=2026-01-02T03:04:05Z at.file.name="x y"`
	if _, got, _ := strings.Cut(lines[0], " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, got, _ := strings.Cut(lines[1], " "); got != `WARN  evil\x1b[2J\nforged 12:00:00 INFO line` {
		t.Errorf("got %s", got)
	}
}

func TestColourIsOnlyForTerminalsThatWantIt(t *testing.T) {
	for _, coloured := range []bool{false, true} {
		var b bytes.Buffer
		slog.New(newTextHandler(&b, slog.LevelDebug, coloured)).Error("m")
		if got := strings.Contains(b.String(), "\x1b[31m"); got != coloured {
			t.Errorf("colour %v: %q", coloured, b.String())
		}
	}
	var b bytes.Buffer
	NewLogger(&b, LogOptions{Format: FormatText, Getenv: func(string) string { return "" }}).Error("m")
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("coloured though no terminal: %q", b.String())
	}
}

func TestAutoIsJSONWhereThereIsNoTerminal(t *testing.T) {
	var b bytes.Buffer
	NewLogger(&b, LogOptions{}).Info("m", "topic", "t")
	if !strings.HasPrefix(b.String(), "{") || !strings.Contains(b.String(), `"topic":"t"`) {
		t.Errorf("got %s", b.String())
	}
}

func TestTextHandlerKeepsTheRulesOfSlog(t *testing.T) {
	var b bytes.Buffer
	err := slogtest.TestHandler(newTextHandler(&b, slog.LevelInfo, false), func() []map[string]any {
		var all []map[string]any
		for line := range strings.Lines(b.String()) {
			all = append(all, parseText(strings.TrimSpace(line)))
		}
		return all
	})
	if err != nil {
		t.Error(err)
	}
}

// parseText reads back a line whose values hold neither space nor quote.
func parseText(line string) map[string]any {
	m := map[string]any{}
	for i, f := range strings.Fields(line) {
		key, value, isAttr := strings.Cut(f, "=")
		switch {
		case isAttr:
			at := m
			for {
				group, rest, nested := strings.Cut(key, ".")
				if !nested {
					break
				}
				if _, ok := at[group]; !ok {
					at[group] = map[string]any{}
				}
				at, key = at[group].(map[string]any), rest
			}
			at[key] = value
		case i == 0 && strings.Count(f, ":") == 2:
			m[slog.TimeKey] = f
		case m[slog.LevelKey] == nil:
			m[slog.LevelKey] = f
		default:
			m[slog.MessageKey] = f
		}
	}
	return m
}

func TestNamesOfFormatsAndLevels(t *testing.T) {
	for _, f := range Formats() {
		if got, err := ParseFormat(strings.ToUpper(string(f))); got != f || err != nil {
			t.Errorf("%s: %v, %v", f, got, err)
		}
	}
	for name, want := range map[string]slog.Level{"debug": slog.LevelDebug, "INFO": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := ParseLevel(name); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil || !strings.Contains(err.Error(), `"xml"`) {
		t.Errorf("got %v", err)
	}
	if _, err := ParseLevel("loud"); err == nil || !strings.Contains(err.Error(), "debug, info, warn, error") {
		t.Errorf("got %v", err)
	}
}

func TestCatalogueListsMetricsWithoutValues(t *testing.T) {
	c := NewCatalogue(prometheus.NewRegistry())
	c.MustRegister(
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: "b_total", Help: `Counted, "quoted" | piped.`, ConstLabels: prometheus.Labels{"server": "x,y"}}, []string{"code", "a"}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "a_bytes", Help: "A gauge."}, func() float64 { return 1 }),
		prometheus.NewHistogram(prometheus.HistogramOpts{Name: "c_seconds", Help: "A histogram."}),
		mixed{},
	)
	ms, err := c.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	const want = "| metric | type | labels | meaning |\n|---|---|---|---|\n" +
		"| `a_bytes` | gauge |  | A gauge. |\n" +
		"| `b_total` | counter | `a`, `code`, `server` | Counted, \"quoted\" \\| piped. |\n" +
		"| `c_seconds` | histogram |  | A histogram. |\n" +
		"| `d_one` | gauge |  | One. |\n" +
		"| `d_two_total` | counter |  | Two. |\n"
	if got := Markdown(ms); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// mixed is a collector of metrics of two types, one of them without a value.
type mixed struct{}

var (
	descOne = prometheus.NewDesc("d_one", "One.", nil, nil)
	descTwo = prometheus.NewDesc("d_two_total", "Two.", nil, nil)
)

func (mixed) Describe(c chan<- *prometheus.Desc) { c <- descOne; c <- descTwo }
func (mixed) Collect(c chan<- prometheus.Metric) {
	c <- prometheus.MustNewConstMetric(descOne, prometheus.GaugeValue, 1)
}

func TestRegisterIsAllOrNothing(t *testing.T) {
	gauge := func(name string) prometheus.Collector {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "h"})
	}
	reg := NewRegistry()
	if err := Register(reg, gauge("a"), gauge("a")); err == nil {
		t.Fatal("the same metric was registered twice")
	}
	if err := Register(reg, gauge("a"), gauge("b")); err != nil {
		t.Errorf("after a failed registration: %v", err)
	}
	if err := Register(nil, gauge("a")); err != nil {
		t.Error(err)
	}
}
