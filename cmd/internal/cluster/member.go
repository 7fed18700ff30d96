package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/proc"
)

// stopPatience is how long a member gets to stop in order: it needs no more
// than 5 s, and may have been paused or starved.
const stopPatience = 20 * time.Second

// tailBytes of a log are shown when its member fails.
const tailBytes = 4 << 10

// Member is a controller or a broker, whether it runs or not. Its methods may be
// called from any goroutine; those that change it, one at a time.
type Member struct {
	// Kind is "broker" or "controller"; ID counts from 1.
	Kind string
	ID   int
	// GRPCAddr is where a broker serves clients, or a controller brokers.
	GRPCAddr string
	// HTTPAddr is where it serves HTTP: a controller metrics and its health, a
	// broker REST too.
	HTTPAddr string
	// InternalAddr is where a broker serves brokers and controllers, or a
	// controller its quorum.
	InternalAddr string

	cluster *Cluster
	command []string // before the binary
	args    []string

	mu      sync.Mutex // guards process
	process *process   // the last one; nil: there was none
}

// process is one run of a member.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
	err    error         // how it ended; read only after exited is closed
}

// Name is broker-1, controller-2.
func (m *Member) Name() string { return nameOf(m.Kind, m.ID) }

func nameOf(kind string, id int) string { return kind + "-" + strconv.Itoa(id) }

// line is its command line.
func (m *Member) line() []string {
	return append(append(slices.Clone(m.command), m.cluster.o.Binary), m.args...)
}

// DataDir is its data directory.
func (m *Member) DataDir() string { return m.path("") }

// LogFile is where all that it prints goes, one run after the other.
func (m *Member) LogFile() string { return m.path(".log") }

// PIDFile has the number of its process while that runs.
func (m *Member) PIDFile() string { return m.path(".pid") }

// Script starts it by hand, with the same flags, files and log.
func (m *Member) Script() string { return m.path(".sh") }

func (m *Member) path(ext string) string { return filepath.Join(m.cluster.Dir, m.Name()+ext) }

func (m *Member) last() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process
}

// Running tells whether its process is there, also when it is paused.
func (m *Member) Running() bool {
	p := m.last()
	return p != nil && !p.hasExited()
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// PID is the number of its process; 0: it does not run.
func (m *Member) PID() int {
	if p := m.last(); p != nil && !p.hasExited() {
		return p.cmd.Process.Pid
	}
	return 0
}

// Exited returns a channel that is closed when the process that was last
// started has ended.
func (m *Member) Exited() <-chan struct{} {
	if p := m.last(); p != nil {
		return p.exited
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}

// Launch starts its process and does not wait until it is ready. It fails with
// *InUseError if it was started by hand.
func (m *Member) Launch() error {
	if m.Running() {
		return fmt.Errorf("%s runs already", m.Name())
	}
	if err := m.free(); err != nil {
		return err
	}
	if err := m.writeScript(); err != nil {
		return err
	}
	log, err := os.OpenFile(m.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	line := m.line()
	p := &process{cmd: exec.Command(line[0], line[1:]...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = log, log, environment()
	// A Ctrl-C at the terminal is for the harness, which stops them in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.Name(), err)
	}
	m.mu.Lock()
	m.process = p
	m.mu.Unlock()
	written := os.WriteFile(m.PIDFile(), fmt.Appendln(nil, p.cmd.Process.Pid), 0o644)
	go func() {
		p.err = p.cmd.Wait()
		_ = os.Remove(m.PIDFile()) // it may not be there
		close(p.exited)
	}()
	return written
}

// writeScript writes Script.
func (m *Member) writeScript() error {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	var words []string
	for _, w := range m.line() {
		words = append(words, quote(w))
	}
	text := fmt.Sprintf("#!/bin/sh\necho $$ > %s\nexec %s >> %s 2>&1\n", quote(m.PIDFile()), strings.Join(words, " "), quote(m.LogFile()))
	return os.WriteFile(m.Script(), []byte(text), 0o755)
}

// environment is that of the members: settings of the caller's are not theirs.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MILLSTREAM_") {
			env = append(env, e)
		}
	}
	return env
}

// Join has a controller join those that run, from its next start on, on an
// empty directory: it and they are all there are then.
// REQUIRES: they have been told of it before that start.
func (m *Member) Join(others []*Member) {
	peers := []string{fmt.Sprintf("%d=%s", m.ID, m.InternalAddr)}
	for _, o := range others {
		if o != m {
			peers = append(peers, fmt.Sprintf("%d=%s", o.ID, o.InternalAddr))
		}
	}
	m.args[slices.Index(m.args, peersFlag)+1] = strings.Join(peers, ",")
	if !slices.Contains(m.args, joinFlag) {
		m.args = append(m.args, joinFlag)
	}
}

// Start starts it and waits until it is ready.
func (m *Member) Start(ctx context.Context) error {
	if err := m.Launch(); err != nil {
		return err
	}
	return m.AwaitReady(ctx)
}

// Stop stops it in order and waits for its end. It does nothing if it does not
// run. It fails if it has to be killed, or ends with an error.
func (m *Member) Stop(ctx context.Context) error {
	p := m.last()
	if p == nil || p.hasExited() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	if err := m.signal(syscall.SIGTERM); err != nil {
		return err
	}
	_ = m.signal(syscall.SIGCONT) // one that is paused would not hear of it
	select {
	case <-p.exited:
		if p.err != nil {
			return m.ended(p)
		}
		return nil
	case <-ctx.Done():
		m.Kill()
		return fmt.Errorf("%s did not stop in time, and was killed: %w", m.Name(), context.Cause(ctx))
	}
}

// Kill ends it with SIGKILL and waits until it is gone. It does nothing if it
// does not run.
func (m *Member) Kill() {
	p := m.last()
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.exited
}

// Pause stops its process as if the machine held its breath: its connections
// stay open, and nobody answers. When it returns, nothing happens in it any more.
func (m *Member) Pause() error {
	if err := m.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return proc.AwaitStill(m.last().cmd.Process.Pid)
}

// Resume lets a paused process go on.
func (m *Member) Resume() error { return m.signal(syscall.SIGCONT) }

// Restart stops it in order, starts it again, and waits until it is ready.
func (m *Member) Restart(ctx context.Context) error {
	return errors.Join(m.Stop(ctx), m.Start(ctx))
}

func (m *Member) signal(s syscall.Signal) error {
	p := m.last()
	if p == nil || p.hasExited() {
		return fmt.Errorf("%s does not run", m.Name())
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s to %s: %w", s, m.Name(), err)
	}
	return nil
}

// ended says how a process ended that should not have, with the end of its log.
// REQUIRES: it has.
func (m *Member) ended(p *process) error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended with %s; the end of %s:\n%s", m.Name(), how, m.LogFile(), m.tail())
}

// tail returns the end of its log, as far as it can be read.
func (m *Member) tail() string {
	f, err := os.Open(m.LogFile())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-tailBytes), io.SeekStart)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}
