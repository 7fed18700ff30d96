package ceiling

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"time"
)

// stopPatience is how long a server gets to stop in order.
const stopPatience = 15 * time.Second

// ServeFlag is the flag with which this program is a server of a round; its
// value is for Serve.
const ServeFlag = "serve"

// Serve is the process of a server. It ends when in does, or ctx.
func Serve(ctx context.Context, text string, in io.Reader, out, log io.Writer) error {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("-%s is for this program itself: %w", ServeFlag, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in) // whoever started this process says no more, or is gone
		cancel()
	}()
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if s.ID == 0 {
		return lead(ctx, s, out, logger)
	}
	return follow(ctx, s, logger)
}

// process is a server that runs.
type process struct {
	spec
	cmd    *exec.Cmd
	in     io.Closer
	said   tail
	exited chan struct{} // closed when it has ended
	err    error         // how; read only after exited is closed
}

// start starts a server. The leader has said where it serves when start
// returns; spoken gets that.
func start(ctx context.Context, self string, s spec, spoken *addresses) (*process, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	p := &process{spec: s, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, self, "-"+ServeFlag, string(text))
	p.cmd.Stderr, p.cmd.WaitDelay = &p.said, stopPatience
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if spoken != nil {
		var line []byte
		if line, err = bufio.NewReader(out).ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, spoken)
		}
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the leader did not say where it serves: %w", err), p.stop())
	}
	return p, nil
}

// stop has a server stop in order, and says how it ended if that was otherwise.
func (p *process) stop() error {
	_ = p.in.Close() // it may have ended
	select {
	case <-p.exited:
		if p.err != nil {
			return p.said.said(p.name(), p.err)
		}
		return nil
	case <-time.After(stopPatience):
		p.kill()
		return fmt.Errorf("%s did not stop within %v", p.name(), stopPatience)
	}
}

// kill ends a server.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.exited
}

// tail keeps the end of what a server says, for the error that it ends with.
type tail struct{ bytes.Buffer }

// Write is part of io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	const most = 4 << 10
	if t.Len() > most {
		t.Next(t.Len() - most)
	}
	return t.Buffer.Write(b)
}

// said returns an error that ends with what was said.
func (t *tail) said(what string, err error) error {
	return fmt.Errorf("%s: %w\n%s", what, err, bytes.TrimSpace(t.Bytes()))
}
