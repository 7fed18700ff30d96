package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// textHandler writes records for people:
//
//	12:04:05.123 INFO  partition opened topic=orders partition=3
//
// Records are written whole, one Write each, under mu.
type textHandler struct {
	level  slog.Leveler
	colour bool
	mu     *sync.Mutex // guards w; shared by the handlers derived from one
	w      io.Writer
	prefix string // of attribute keys: the open groups, each with a dot
	attrs  []byte // attributes given by With, already written out
}

func newTextHandler(w io.Writer, level slog.Leveler, colour bool) *textHandler {
	return &textHandler{level: level, colour: colour, mu: &sync.Mutex{}, w: w}
}

// Enabled reports whether records of the level are written.
func (h *textHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle writes a record.
func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	b := make([]byte, 0, 256)
	if !r.Time.IsZero() {
		b = append(r.Time.AppendFormat(b, "15:04:05.000"), ' ')
	}
	b = h.appendLevel(b, r.Level)
	b = appendPrintable(b, r.Message)
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		b = h.appendAttr(b, h.prefix, a)
		return true
	})
	b = append(b, '\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(b)
	return err
}

// WithAttrs returns a handler that adds the attributes to every record.
func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.attrs = append([]byte(nil), h.attrs...)
	for _, a := range attrs {
		n.attrs = n.appendAttr(n.attrs, n.prefix, a)
	}
	return &n
}

// WithGroup returns a handler that puts the name before the keys of later
// attributes.
func (h *textHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	n := *h
	n.prefix = h.prefix + name + "."
	return &n
}

func (h *textHandler) appendLevel(b []byte, l slog.Level) []byte {
	colour := ""
	switch {
	case l >= slog.LevelError:
		colour = "\x1b[31m"
	case l >= slog.LevelWarn:
		colour = "\x1b[33m"
	case l < slog.LevelInfo:
		colour = "\x1b[90m"
	}
	if !h.colour || colour == "" {
		return fmt.Appendf(b, "%-5s ", l)
	}
	return fmt.Appendf(b, "%s%-5s\x1b[0m ", colour, l)
}

func (h *textHandler) appendAttr(b []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return b
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, g := range v.Group() {
			b = h.appendAttr(b, prefix, g)
		}
		return b
	}
	b = append(b, ' ')
	b = appendPrintable(b, prefix+a.Key)
	b = append(b, '=')
	s := v.String()
	if v.Kind() == slog.KindTime {
		s = v.Time().Format(time.RFC3339Nano)
	}
	if needsQuotes(s) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

// appendPrintable appends s with what would break the line, or play tricks on
// a terminal, escaped.
func appendPrintable(b []byte, s string) []byte {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			q := strconv.Quote(s)
			return append(b, q[1:len(q)-1]...)
		}
	}
	return append(b, s...)
}

func needsQuotes(s string) bool {
	for _, r := range s {
		if r == ' ' || r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r) {
			return true
		}
	}
	return s == ""
}
