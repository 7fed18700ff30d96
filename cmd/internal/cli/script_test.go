package cli

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/millstream-io/millstream/server/tlsfile"
)

func TestMain(m *testing.M) {
	if os.Getenv("TEST_AS_MILLSTREAM") != "" { // see TestQuickstart
		os.Exit(Main("v0.0.0-test"))
	}
	testscript.Main(m, map[string]func(){
		"millstream": func() { os.Exit(Main("v0.0.0-test")) },
	})
}

// TestScripts runs the stories in testdata/script, with the program as a
// process, against servers that are processes too. Beside the usual commands
// they have
//
//	serve [ARG…]          start `millstream dev`; $ADDR, $HTTP, $DATA and
//	                      $MILLSTREAM_ADDR say where it is
//	[!] quit [SIGNAL…]    signal it (SIGTERM), wait for its end, and check that
//	                      it took less than 5 s and that the exit code is 0;
//	                      with several signals any will do
//	[!] http METHOD PATH [BODY]
//	                      send a request; the status and the body go to stdout;
//	                      with ! the status is 400 or more; over TLS if $CA
//	                      names the file of an authority
//	retry ARG…            run a command until it succeeds
//	busy                  listen on a port, $BUSY
//	follow ARG…           start the program in the background
//	seen TEXT             wait until its output has TEXT
//	unfollow              send it SIGINT, wait for its end; its output goes to
//	                      stdout
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "TMPDIR="+filepath.Join(env.WorkDir, ".tmp"), quickExit)
			env.Values[process("dev")] = &background{}
			env.Values[process("follow")] = &background{}
			return os.MkdirAll(filepath.Join(env.WorkDir, ".tmp"), 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serve, "quit": quit, "http": request, "busy": busy,
			"retry": retry, "follow": follow, "seen": seen, "unfollow": unfollow,
		},
	})
}

// quickExit keeps the race detector from waiting a second at each exit.
const quickExit = "GORACE=atexit_sleep_ms=0"

// patience bounds every wait of a script.
const patience = 30 * time.Second

// process is the key of a script's background process.
type process string

// background is a process that a script has started.
type background struct {
	cmd    *exec.Cmd
	out    *output
	exited chan struct{} // closed when the process is gone
}

// output takes what a process prints.
type output struct {
	grown chan struct{} // capacity 1
	bytes bytes.Buffer
	lock  chan struct{} // capacity 1; holds a token while bytes is used
}

func newOutput() *output {
	return &output{grown: make(chan struct{}, 1), lock: make(chan struct{}, 1)}
}

func (o *output) Write(b []byte) (int, error) {
	o.lock <- struct{}{}
	defer func() { <-o.lock }()
	select {
	case o.grown <- struct{}{}:
	default:
	}
	return o.bytes.Write(b)
}

func (o *output) String() string {
	o.lock <- struct{}{}
	defer func() { <-o.lock }()
	return o.bytes.String()
}

// start runs the program in the background until the script ends.
func start(ts *testscript.TestScript, key process, both bool, args ...string) *background {
	b := ts.Value(key).(*background)
	if b.cmd != nil {
		ts.Fatalf("one is running already")
	}
	path, err := exec.LookPath("millstream")
	if err != nil {
		path = filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "millstream")
	}
	b.cmd, b.out, b.exited = exec.Command(path, args...), newOutput(), make(chan struct{})
	b.cmd.Dir, b.cmd.Env = ts.MkAbs("."), []string{quickExit}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "MILLSTREAM_ADDR"} {
		b.cmd.Env = append(b.cmd.Env, name+"="+ts.Getenv(name))
	}
	b.cmd.Stdout = b.out
	if both {
		b.cmd.Stderr = b.out
	}
	ts.Check(b.cmd.Start())
	go func() {
		_ = b.cmd.Wait() // the exit code is in ProcessState
		close(b.exited)
	}()
	ts.Defer(func() { b.kill() })
	return b
}

func (b *background) kill() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill() // it may be gone
		<-b.exited
		b.cmd = nil
	}
}

func serve(ts *testscript.TestScript, neg bool, args []string) {
	file := filepath.Join(ts.Getenv("TMPDIR"), "ready")
	_ = os.Remove(file) // of a server before this one
	args = append([]string{"dev", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ready-file", file}, args...)
	b := start(ts, "dev", true, args...)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; {
		if text, err := os.ReadFile(file); err == nil {
			var v readyView
			ts.Check(json.Unmarshal(text, &v))
			ts.Setenv("ADDR", v.GRPCAddr)
			ts.Setenv("MILLSTREAM_ADDR", v.GRPCAddr)
			ts.Setenv("HTTP", v.HTTPAddr)
			ts.Setenv("DATA", v.DataDir)
			return
		}
		select {
		case <-b.exited:
			ts.Fatalf("the server stopped: %v\n%s", b.cmd.ProcessState, b.out)
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the server is not ready\n%s", b.out)
		}
	}
}

func quit(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}
	if len(args) == 0 {
		args = []string{"TERM"}
	}
	b := ts.Value(process("dev")).(*background)
	began := time.Now()
	for _, name := range args {
		ts.Check(b.cmd.Process.Signal(signals[name]))
	}
	select {
	case <-b.exited:
	case <-time.After(patience):
		ts.Fatalf("the server does not stop\n%s", b.out)
	}
	took, code := time.Since(began), b.cmd.ProcessState.ExitCode()
	b.cmd = nil
	_, _ = io.WriteString(ts.Stdout(), b.out.String())
	if took > 5*time.Second {
		ts.Fatalf("the server took %s to stop\n%s", took, b.out)
	}
	if (code != 0) != neg && len(args) == 1 {
		ts.Fatalf("exit code %d\n%s", code, b.out)
	}
}

func request(ts *testscript.TestScript, neg bool, args []string) {
	var body io.Reader
	if len(args) > 2 {
		body = strings.NewReader(args[2])
	}
	scheme, client := "http://", http.DefaultClient
	if ca := ts.Getenv("CA"); ca != "" {
		roots, err := tlsfile.Roots(ts.MkAbs(ca), time.Now())
		ts.Check(err)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		defer transport.CloseIdleConnections()
		scheme, client = "https://", &http.Client{Transport: transport}
	}
	req, err := http.NewRequest(args[0], scheme+ts.Getenv("HTTP")+args[1], body)
	ts.Check(err)
	resp, err := client.Do(req)
	ts.Check(err)
	defer closeQuietly(resp.Body)
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	_, _ = fmt.Fprintf(ts.Stdout(), "%d %s\n%s", resp.StatusCode, resp.Header.Get("Content-Type"), text)
	if (resp.StatusCode >= 400) != neg {
		ts.Fatalf("%s %s: %d %s", args[0], args[1], resp.StatusCode, text)
	}
}

func retry(ts *testscript.TestScript, neg bool, args []string) {
	for deadline := time.Now().Add(patience); ; {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q does not succeed: %v", args, err)
		}
	}
}

func busy(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { closeQuietly(l) })
	ts.Setenv("BUSY", l.Addr().String())
}

func follow(ts *testscript.TestScript, neg bool, args []string) { start(ts, "follow", false, args...) }

func seen(ts *testscript.TestScript, neg bool, args []string) {
	b := ts.Value(process("follow")).(*background)
	timeout := time.After(patience)
	for !strings.Contains(b.out.String(), args[0]) {
		select {
		case <-b.out.grown:
		case <-timeout:
			ts.Fatalf("%q is not in\n%s", args[0], b.out)
		case <-b.exited:
			if !strings.Contains(b.out.String(), args[0]) {
				ts.Fatalf("it ended (%v), and %q is not in\n%s", b.cmd.ProcessState, args[0], b.out)
			}
		}
	}
}

func unfollow(ts *testscript.TestScript, neg bool, args []string) {
	b := ts.Value(process("follow")).(*background)
	if err := b.cmd.Process.Signal(os.Interrupt); !errors.Is(err, os.ErrProcessDone) {
		ts.Check(err)
	}
	select {
	case <-b.exited:
	case <-time.After(patience):
		ts.Fatalf("it does not end\n%s", b.out)
	}
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		ts.Fatalf("exit code %d\n%s", code, b.out)
	}
	b.cmd = nil
	_, _ = io.WriteString(ts.Stdout(), b.out.String())
}
