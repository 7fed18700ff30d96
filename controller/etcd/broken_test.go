package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/millstream-io/millstream/controller/store"
)

// releasing is a breaker whose waiters end when the test does not need them any
// more: at once.
type releasing struct{ *breaker }

func (r releasing) OnWrite(e *zapcore.CheckedEntry, fs []zapcore.Field) {
	r.note(e, fs)
	runtime.Goexit()
}

// Where etcd would end the process, who runs it hears why.
func TestWhatWouldEndTheProcessIsSaid(t *testing.T) {
	for name, end := range map[string]func(*zap.Logger, ...zap.Field){
		"fatal": func(l *zap.Logger, fs ...zap.Field) { l.Fatal("cannot write", fs...) },
		"panic": func(l *zap.Logger, fs ...zap.Field) { l.Panic("cannot write", fs...) },
	} {
		b := newBreaker("/dir", nil, slog.New(slog.DiscardHandler))
		l := zap.New(newSlogCore(slog.New(slog.DiscardHandler)), zap.WithFatalHook(releasing{b}), zap.WithPanicHook(releasing{b}))
		if b.isBroken() {
			t.Fatalf("%s: it is broken", name)
		}
		var broken *BrokenError
		err := b.unlessBroken(func() error {
			end(l, zap.Int("n", 1), zap.Error(syscall.EROFS))
			return nil
		})
		if !errors.As(err, &broken) || !errors.Is(err, syscall.EROFS) || broken.Dir != "/dir" || broken.What != "cannot write" || !b.isBroken() {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := newBreaker("/dir", nil, slog.New(slog.DiscardHandler))
	cause := errors.New("its own")
	if err := b.unlessBroken(func() error { return cause }); !errors.Is(err, cause) {
		t.Errorf("a call that ends: %v", err)
	}
}

// writtenMark stands before how many values fillUp has written.
const writtenMark = "values written:"

// fillUp is what the process does that TestABrokenStoreSaysWhy starts: it fills
// the disk, and writes until the store cannot.
func fillUp(dir string) int {
	failed := func(err error) int {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := dev(dir)
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	m, err := Open(o)
	if err != nil {
		return failed(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f, err := os.Create(filepath.Join(filepath.Dir(dir), "filled"))
	if err != nil {
		return failed(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return failed(err)
	}
	writing, stop := context.WithCancel(ctx)
	go func() {
		<-m.Failed()
		stop()
	}()
	written := 0
	for ; writing.Err() == nil; written++ {
		_, _, err := m.Txn(writing, store.Txn{Ops: []store.Op{{Key: fmt.Sprintf("/fill/%d", written), Value: make([]byte, 256<<10)}}})
		if err != nil {
			break
		}
	}
	select {
	case <-m.Failed():
	case <-ctx.Done():
		return failed(fmt.Errorf("after %d it goes on", written))
	}
	if err := m.Failure(); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
		return failed(fmt.Errorf("after %d: %w", written, err))
	}
	begun := time.Now()
	if err := m.Close(); err != nil || time.Since(begun) > time.Second {
		return failed(fmt.Errorf("closed in %v: %w", time.Since(begun), err))
	}
	// What it has not done yet it may still do: nobody else may come.
	var inUse *InUseError
	if _, err := Open(o); !errors.As(err, &inUse) {
		return failed(fmt.Errorf("opened again: %w", err))
	}
	_, _ = fmt.Fprintln(os.Stdout, writtenMark, written)
	return 0
}
