package etcd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// What etcd says when nothing is wrong is for those who debug it.
func TestNoiseIsNoWarning(t *testing.T) {
	var out bytes.Buffer
	l := zap.New(newSlogCore(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))))
	l.Warn("simple token is not cryptographically signed")
	l.Warn("d8e44360bd7cfd91 cannot campaign at term 1 since there are still pending configuration changes to apply")
	l.Info("became leader")
	if out.Len() > 0 {
		t.Errorf("it says %s", out.String())
	}
	l.Warn("slow fdatasync", zap.Int("took-ms", 7))
	if got := out.String(); !strings.Contains(got, `level=WARN msg="slow fdatasync" component=etcd took-ms=7`) {
		t.Errorf("it says %q", got)
	}
}
