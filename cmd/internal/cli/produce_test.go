package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/server/servertest"
)

func shapeOf(t *testing.T, args ...string) *recordShape {
	t.Helper()
	var f produceFlags
	c := &cobra.Command{Use: "produce"}
	f.register(c)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	s, err := f.shape(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLinesBecomeRecords(t *testing.T) {
	bytesOf := func(s string) []byte { return []byte(s) }
	for _, c := range []struct {
		name, line string
		args       []string
		want       millstream.Record
	}{
		{"verbatim", " a\tb\r", nil, millstream.Record{Value: bytesOf(" a\tb\r")}},
		{"empty line", "", nil, millstream.Record{Value: []byte{}}},
		{"not UTF-8", "\xff\x00", nil, millstream.Record{Value: bytesOf("\xff\x00")}},
		{"key", "v", []string{"--key", "k"}, millstream.Record{Key: bytesOf("k"), Value: bytesOf("v")}},
		{"empty key", "v", []string{"--key", ""}, millstream.Record{Key: []byte{}, Value: bytesOf("v")}},
		{"separator", "k::v::w", []string{"--key-separator", "::"}, millstream.Record{Key: bytesOf("k"), Value: bytesOf("v::w")}},
		{"separator, empty value", "k:", []string{"--key-separator", ":"}, millstream.Record{Key: bytesOf("k"), Value: []byte{}}},
		{"separator, empty key", ":v", []string{"--key-separator", ":"}, millstream.Record{Key: []byte{}, Value: bytesOf("v")}},
		{"null", "whatever", []string{"--key", "k", "--null-value"}, millstream.Record{Key: bytesOf("k")}},
		{"null, separator", "k:", []string{"--key-separator", ":", "--null-value"}, millstream.Record{Key: bytesOf("k")}},
		{"not null, separator", "k:v", []string{"--key-separator", ":", "--null-value"}, millstream.Record{Key: bytesOf("k"), Value: bytesOf("v")}},
		{"ndjson", `{"a": 1 }`, []string{"--format", "ndjson"}, millstream.Record{Value: bytesOf(`{"a": 1 }`)}},
		{"key path", `{"a":{"b":"x"}}`, []string{"--format", "ndjson", "--key-path", "a.b"}, millstream.Record{Key: bytesOf("x"), Value: bytesOf(`{"a":{"b":"x"}}`)}},
		{"key path, none", `[1]`, []string{"--format", "ndjson", "--key-path", "a.b"}, millstream.Record{Value: bytesOf(`[1]`)}},
		{"null, key path", `{"a":1}`, []string{"--format", "ndjson", "--key-path", "a", "--null-value"}, millstream.Record{Key: bytesOf("1")}},
		{"headers", "v", []string{"-H", "a:1", "-H", "b: x:y", "-H", "c:"}, millstream.Record{Value: bytesOf("v"), Headers: []millstream.Header{
			{Key: "a", Value: bytesOf("1")}, {Key: "b", Value: bytesOf(" x:y")}, {Key: "c", Value: []byte{}},
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := shapeOf(t, c.args...).record([]byte(c.line))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestLinesThatAreNoRecords(t *testing.T) {
	for _, c := range []struct {
		line string
		args []string
	}{
		{"{", []string{"--format", "ndjson"}},
		{"", []string{"--format", "ndjson"}},
		{"{} {}", []string{"--format", "ndjson"}},
		{`{"a":{}}`, []string{"--format", "ndjson", "--key-path", "a"}},
		{"no separator", []string{"--key-separator", ":"}},
	} {
		if r, err := shapeOf(t, c.args...).record([]byte(c.line)); err == nil {
			t.Errorf("%q %v became %v", c.line, c.args, r)
		}
	}
}

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 700<<10)
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"none":                   {"", nil},
		"one":                    {"a\n", []string{"a"}},
		"no last newline":        {"a\nb", []string{"a", "b"}},
		"empty lines":            {"\n\na\n", []string{"", "", "a"}},
		"carriage return":        {"a\r\n", []string{"a\r"}},
		"longer than the buffer": {long + "\n" + long + "y\nz", []string{long, long + "y", "z"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				lines := newLineReader(r)
				var got []string
				for {
					line, err := lines.next()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, string(line))
				}
				if d := cmp.Diff(c.want, got); d != "" || lines.n != int64(len(c.want)) {
					t.Errorf("%d lines, %s", lines.n, d)
				}
			}
		})
	}
}

func TestLinesAreBounded(t *testing.T) {
	lines := newLineReader(io.MultiReader(strings.NewReader("a\n"), endless{}))
	if _, err := lines.next(); err != nil {
		t.Fatal(err)
	}
	_, err := lines.next()
	if bad, ok := errors.AsType[*lineError](err); !ok || bad.line != 2 {
		t.Errorf("got %v", err)
	}
	broken := errors.New("broken pipe")
	if _, err := newLineReader(iotest.ErrReader(broken)).next(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// endless is a line without end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// What is written is passed on without further writes, and an error of that
// is told.
func TestLiveWriterPassesOn(t *testing.T) {
	r, w := io.Pipe()
	l := newLiveWriter(w, func(err error) { t.Error(err) })
	if _, err := l.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil || line != "hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}

	told := make(chan error, 1)
	l = newLiveWriter(w, func(err error) { told <- err })
	gone := errors.New("nobody reads")
	_ = r.CloseWithError(gone)
	if _, err := l.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-told; !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if _, err := l.Write([]byte("y")); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if err := l.Close(); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestLiveWriterFlushesAtTheEnd(t *testing.T) {
	var b bytes.Buffer
	l := newLiveWriter(&b, func(err error) { t.Error(err) })
	if _, err := l.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil || b.String() != "x" {
		t.Errorf("got %q, %v", b.String(), err)
	}
}

// The summary counts what was acknowledged, and nothing of a line that was
// refused.
func TestSummarySpeaksOfWhatWasAcknowledged(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	addr := s.TCP()
	for input, want := range map[string]string{
		"one\n" + strings.Repeat("x", 2<<20) + "\n": "1 record acknowledged in ",
		strings.Repeat("x", 2<<20) + "\n":           "0 records acknowledged in ",
	} {
		var out, errs bytes.Buffer
		p := &Program{
			Version: "v0", Args: []string{"--addr", addr, "produce", "t"}, In: strings.NewReader(input), Out: &out, Err: &errs,
			Getenv: func(string) string { return "" },
		}
		if exit := p.Run(t.Context()); exit != 1 || !strings.HasPrefix(errs.String(), want) || !strings.Contains(errs.String(), " 0.0 MB/s)") {
			t.Errorf("exit %d, and it says %s", exit, errs.String())
		}
	}
}
