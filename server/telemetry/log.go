// Package telemetry sets up what an operator sees of a process: its log and
// its metrics.
//
// It is a leaf: it imports no package of ours and keeps no global state. Logs
// and registries are made by a main function and handed down.
//
// INVARIANT: a record is one line, whatever its message and attributes hold.
//
// It starts no goroutine; the writer of a log stays its owner's to close.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"
)

// Format says how log records are written.
type Format string

// Formats of log records.
const (
	// FormatAuto is FormatText on a terminal and FormatJSON elsewhere.
	FormatAuto Format = "auto"
	// FormatText is for people: time of day, level, message, attributes.
	FormatText Format = "text"
	// FormatJSON is for programs: one JSON object a line.
	FormatJSON Format = "json"
)

// Formats lists what ParseFormat knows.
func Formats() []Format { return []Format{FormatAuto, FormatText, FormatJSON} }

// ParseFormat returns the format of that name.
func ParseFormat(name string) (Format, error) {
	for _, f := range Formats() {
		if strings.EqualFold(name, string(f)) {
			return f, nil
		}
	}
	return "", fmt.Errorf("log format %q: must be one of auto, text, json", name)
}

// ParseLevel returns the level of that name: debug, info, warn or error.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	default:
		return 0, fmt.Errorf("log level %q: must be one of debug, info, warn, error", name)
	}
}

// LogOptions say what a log looks like. The zero value is FormatAuto from
// level INFO on.
type LogOptions struct {
	Format Format
	// Level is the least level written; it may be changed while in use
	// (slog.LevelVar). Nil: INFO.
	Level slog.Leveler
	// Getenv looks up NO_COLOR; nil: os.Getenv.
	Getenv func(string) string
}

// NewLogger returns a logger that writes to w. It colours levels only on a
// terminal, and only while NO_COLOR is unset or empty (no-color.org).
func NewLogger(w io.Writer, o LogOptions) *slog.Logger {
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	terminal := isTerminal(w)
	if o.Format == FormatText || (o.Format != FormatJSON && terminal) {
		return slog.New(newTextHandler(w, o.Level, terminal && o.Getenv("NO_COLOR") == ""))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: o.Level}))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
