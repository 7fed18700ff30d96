package cli

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	millstream "github.com/millstream-io/millstream/clients/go"
)

// recordForm appends a record to dst as it is printed.
type recordForm interface {
	append(dst []byte, r *millstream.FetchedRecord) []byte
}

// parseRecordForm reads the output of consume.
func parseRecordForm(output, topic string) (recordForm, error) {
	switch {
	case output == "" || output == "value":
		return valueForm{}, nil
	case output == "json":
		return jsonForm{topic: string(appendQuoted(nil, topic))}, nil
	case !strings.Contains(output, "%"):
		return nil, fmt.Errorf("output %q: must be value, json or a format like '%%p %%o %%v\\n'", output)
	}
	return parseFormat(output, topic)
}

// valueForm is the value and a newline.
type valueForm struct{}

func (valueForm) append(dst []byte, r *millstream.FetchedRecord) []byte {
	return append(append(dst, r.Value...), '\n')
}

// format is a sequence of texts and verbs.
type format struct {
	topic string
	parts []formatPart
}

// formatPart is a verb, or a text if the verb is 0.
type formatPart struct {
	verb byte
	text string
}

const (
	formatVerbs   = "tpokvTh"
	formatEscapes = `nt\`
)

// parseFormat reads a format: %t %p %o %k %v %T %h %%, \n, \t and \\.
func parseFormat(s, topic string) (*format, error) {
	f := &format{topic: topic}
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			f.parts = append(f.parts, formatPart{text: text.String()})
			text.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '%' && c != '\\' {
			text.WriteByte(c)
			continue
		}
		if i++; i == len(s) {
			return nil, fmt.Errorf("format %q ends with a lone %c", s, c)
		}
		switch v := s[i]; {
		case c == '%' && v == '%':
			text.WriteByte('%')
		case c == '%' && strings.IndexByte(formatVerbs, v) >= 0:
			flush()
			f.parts = append(f.parts, formatPart{verb: v})
		case c == '\\' && strings.IndexByte(formatEscapes, v) >= 0:
			text.WriteByte(map[byte]byte{'n': '\n', 't': '\t', '\\': '\\'}[v])
		default:
			return nil, fmt.Errorf(`format %q has %c%c; known are %%t %%p %%o %%k %%v %%T %%h %%%% \n \t \\`, s, c, v)
		}
	}
	flush()
	return f, nil
}

func (f *format) append(dst []byte, r *millstream.FetchedRecord) []byte {
	for _, p := range f.parts {
		switch p.verb {
		case 0:
			dst = append(dst, p.text...)
		case 't':
			dst = append(dst, f.topic...)
		case 'p':
			dst = strconv.AppendUint(dst, uint64(r.Partition), 10)
		case 'o':
			dst = strconv.AppendInt(dst, r.Offset, 10)
		case 'k':
			dst = append(dst, r.Key...)
		case 'v':
			dst = append(dst, r.Value...)
		case 'T':
			dst = strconv.AppendInt(dst, r.Time.UnixMilli(), 10)
		case 'h':
			for i, h := range r.Headers {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(append(append(dst, h.Key...), '='), h.Value...)
			}
		}
	}
	return dst
}

// jsonForm is one object a line.
type jsonForm struct {
	topic string // quoted
}

func (f jsonForm) append(dst []byte, r *millstream.FetchedRecord) []byte {
	dst = append(append(dst, `{"topic":`...), f.topic...)
	dst = strconv.AppendUint(append(dst, `,"partition":`...), uint64(r.Partition), 10)
	dst = strconv.AppendInt(append(dst, `,"offset":`...), r.Offset, 10)
	dst = strconv.AppendInt(append(dst, `,"timestamp_ms":`...), r.Time.UnixMilli(), 10)
	dst = appendBytesField(append(dst, ','), "key", r.Key)
	dst = appendBytesField(append(dst, ','), "value", r.Value)
	return append(appendHeaders(dst, r.Headers), "}\n"...)
}

// appendHeaders appends the member `headers`.
func appendHeaders(dst []byte, headers []millstream.Header) []byte {
	dst = append(dst, `,"headers":[`...)
	for i, h := range headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendQuoted(append(dst, `{"key":`...), h.Key)
		dst = append(appendBytesField(append(dst, ','), "value", h.Value), '}')
	}
	return append(dst, ']')
}

// appendBytesField appends bytes as text if they are UTF-8, else as base64
// under the name with _base64; null as null.
func appendBytesField[B ~[]byte](dst []byte, name string, b B) []byte {
	dst = append(append(dst, '"'), name...)
	switch {
	case b == nil:
		return append(dst, `":null`...)
	case utf8.Valid(b):
		return appendQuoted(append(dst, `":`...), b)
	}
	dst = append(dst, `_base64":"`...)
	return append(base64.StdEncoding.AppendEncode(dst, b), '"')
}

// appendQuoted appends UTF-8 text as a JSON string.
func appendQuoted[T ~string | ~[]byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[start:]...), '"')
}
