package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	millstream "github.com/millstream-io/millstream/clients/go"
)

// produceFlags are the flags of produce.
type produceFlags struct {
	format, keyPath, key, separator string
	headers                         []string
	nullValue                       bool
	to                              uint32
	acks, compression               string
}

func (f *produceFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.format, "format", "lines", "form of the input: lines or ndjson")
	flags.StringVar(&f.keyPath, "key-path", "", "with ndjson: dotted `PATH` of the key, like a.b")
	flags.StringVar(&f.key, "key", "", "key of every record")
	flags.StringVar(&f.separator, "key-separator", "", "what is before the first `S` of a line is its key")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "`K:V`: a header of every record; may be repeated")
	flags.BoolVar(&f.nullValue, "null-value", false, "records have no value (tombstones)")
	flags.Uint32Var(&f.to, "partition", 0, "partition of every record; by key unless given")
	flags.StringVar(&f.acks, "acks", "all", "who must have a record before it is acknowledged: all, leader or none")
	flags.StringVar(&f.compression, "compression", "none", "of batches: none, zstd, lz4 or snappy")
}

func (f *produceFlags) partition(c *cobra.Command) *uint32 {
	if c.Flags().Changed("partition") {
		return &f.to
	}
	return nil
}

// parseAcks and parseCompression are bench's too.
func parseAcks(s string) (millstream.Acks, error) {
	switch s {
	case "all":
		return millstream.AcksAll, nil
	case "leader":
		return millstream.AcksLeader, nil
	case "none":
		return millstream.AcksNone, nil
	}
	return 0, fmt.Errorf("--acks %q: must be all, leader or none", s)
}

func parseCompression(s string) (millstream.Compression, error) {
	switch s {
	case "none":
		return millstream.CompressionNone, nil
	case "zstd":
		return millstream.CompressionZstd, nil
	case "lz4":
		return millstream.CompressionLZ4, nil
	case "snappy":
		return millstream.CompressionSnappy, nil
	}
	return 0, fmt.Errorf("--compression %q: must be none, zstd, lz4 or snappy", s)
}

func (f *produceFlags) options(c *cobra.Command, topic string) (millstream.ProducerOptions, error) {
	o := millstream.ProducerOptions{Topic: topic}
	var err error
	if o.Acks, err = parseAcks(f.acks); err != nil {
		return o, misuse(c, "%v", err)
	}
	if o.Compression, err = parseCompression(f.compression); err != nil {
		return o, misuse(c, "%v", err)
	}
	return o, nil
}

// shape returns how lines become records, or why the flags do not go together.
func (f *produceFlags) shape(c *cobra.Command) (*recordShape, error) {
	given := c.Flags().Changed
	s := &recordShape{nullValue: f.nullValue, separator: []byte(f.separator)}
	switch f.format {
	case "lines":
	case "ndjson":
		s.json = true
	default:
		return nil, misuse(c, "--format %q: must be lines or ndjson", f.format)
	}
	keys := 0
	for _, name := range []string{"key", "key-path", "key-separator"} {
		if given(name) {
			keys++
		}
	}
	switch {
	case keys > 1:
		return nil, misuse(c, "--key, --key-path and --key-separator exclude each other")
	case given("key-path") && !s.json:
		return nil, misuse(c, "--key-path needs --format ndjson")
	case given("key-separator") && s.json:
		return nil, misuse(c, "--key-separator needs --format lines")
	case given("key-separator") && f.separator == "":
		return nil, misuse(c, "--key-separator is empty")
	case given("key"):
		s.key = []byte(f.key)
	case given("key-path"):
		var err error
		if s.keyPath, err = parseKeyPath(f.keyPath); err != nil {
			return nil, misuse(c, "--key-path %v", err)
		}
	}
	for _, h := range f.headers {
		key, value, ok := strings.Cut(h, ":")
		if !ok || key == "" || !utf8.ValidString(key) {
			return nil, misuse(c, "-H %q is not K:V", h)
		}
		s.headers = append(s.headers, millstream.Header{Key: key, Value: []byte(value)})
	}
	return s, nil
}

// recordShape says how a line becomes a record.
type recordShape struct {
	json      bool
	key       []byte  // of every record, unless nil
	keyPath   keyPath // unless nil
	separator []byte  // unless empty
	headers   []millstream.Header
	nullValue bool
}

var (
	errNotJSON     = errors.New("not JSON")
	errNoSeparator = errors.New("has no key separator")
)

// record makes a record of a line. BORROWED: it points into the line.
func (s *recordShape) record(line []byte) (millstream.Record, error) {
	r := millstream.Record{Key: s.key, Value: line, Headers: s.headers}
	if s.json {
		if !json.Valid(line) {
			return r, errNotJSON
		}
		if s.keyPath != nil {
			var err error
			if r.Key, err = s.keyPath.find(line); err != nil {
				return r, err
			}
		}
	}
	if len(s.separator) > 0 {
		key, value, ok := bytes.Cut(line, s.separator)
		if !ok {
			return r, errNoSeparator
		}
		r.Key, r.Value = key, value
	}
	switch {
	case s.nullValue && (len(s.separator) == 0 || len(r.Value) == 0):
		r.Value = nil
	case r.Value == nil:
		r.Value = []byte{} // an empty line is an empty value, not null
	}
	return r, nil
}

// onEmpty tells whether input without a line is one record.
func (s *recordShape) onEmpty() bool { return s.nullValue && s.key != nil && !s.json }

// null is that record.
func (s *recordShape) null() millstream.Record {
	return millstream.Record{Key: s.key, Headers: s.headers}
}
