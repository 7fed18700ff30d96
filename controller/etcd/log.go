package etcd

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"
)

// noise is what etcd says at WARN or ERROR when nothing is wrong: on every
// stop that its listeners closed, and that it could not say its name in time;
// on every start that it has no HTTP port of its own; on the first that there
// is no schema yet.
var noise = map[string]bool{
	"setting up serving from embedded etcd failed.":                                        true,
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"Failed to detect schema version":                                                      true,
	"failed to update storage version":                                                     true,
	"failed to publish local member to cluster through raft":                               true,
	"stopped publish because server is stopping":                                           true,
	"simple token is not cryptographically signed":                                         true,
}

// noiseEnd is how noise ends that begins with the member's number: on the first
// start, when the time to campaign has come before the member has read of
// itself. It campaigns a tick later.
const noiseEnd = " since there are still pending configuration changes to apply"

// slogCore is a zapcore.Core that writes to slog.
type slogCore struct {
	logger *slog.Logger
	fields []zapcore.Field
}

func newSlogCore(l *slog.Logger) *slogCore {
	return &slogCore{logger: l.With(slog.String("component", "etcd"))}
}

// levelOf maps levels: what etcd holds worth an INFO is of interest to those
// who debug it.
func levelOf(l zapcore.Level) slog.Level {
	switch {
	case l <= zapcore.InfoLevel:
		return slog.LevelDebug
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// Enabled is part of zapcore.Core.
func (c *slogCore) Enabled(l zapcore.Level) bool {
	return c.logger.Enabled(context.Background(), levelOf(l))
}

// With is part of zapcore.Core.
func (c *slogCore) With(fs []zapcore.Field) zapcore.Core {
	return &slogCore{logger: c.logger, fields: append(slices.Clip(c.fields), fs...)}
}

// Check is part of zapcore.Core.
func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write is part of zapcore.Core.
func (c *slogCore) Write(e zapcore.Entry, fs []zapcore.Field) error {
	level := levelOf(e.Level)
	if noise[e.Message] || strings.HasSuffix(e.Message, noiseEnd) {
		level = slog.LevelDebug
	}
	ctx := context.Background()
	if !c.logger.Enabled(ctx, level) {
		return nil
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fs) {
		f.AddTo(enc)
	}
	r := slog.NewRecord(e.Time, level, e.Message, 0)
	for _, k := range slices.Sorted(maps.Keys(enc.Fields)) {
		r.AddAttrs(slog.Any(k, enc.Fields[k]))
	}
	return c.logger.Handler().Handle(ctx, r)
}

// Sync is part of zapcore.Core.
func (c *slogCore) Sync() error { return nil }
