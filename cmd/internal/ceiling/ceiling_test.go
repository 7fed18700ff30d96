package ceiling

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/storage/vfs"
)

// spoil names the server that a test has spoil its file, and how.
const spoil = "CEILING_TEST_SPOIL"

// The servers are this program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-"+ServeFlag {
		if err := serveForTest(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The race detector has each process wait for a second at its end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func serveForTest(text string) error {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	who, how, _ := strings.Cut(os.Getenv(spoil), " ")
	if who != s.name() {
		how = ""
	}
	if how == "refuse" {
		return errors.New("as the test wants it")
	}
	if err := Serve(context.Background(), text, os.Stdin, os.Stdout, os.Stderr); err != nil {
		return err
	}
	b, err := os.ReadFile(s.log())
	if err != nil {
		return err
	}
	switch how {
	case "flip":
		b[len(b)/2] ^= 1
	case "cut":
		b = b[:len(b)-1]
	}
	return os.WriteFile(s.log(), b, 0o600)
}

// options are those of a small run.
func options(t *testing.T, out io.Writer) Options {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("CPU time is known on Linux only")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Self: self, Dir: t.TempDir(), Out: out, Rounds: 1, MB: 2, Size: 100_000, Window: 4,
		Followers: 2, Acks: AcksAll, From: FromMemory, TLS: true,
	}
}

// isEmpty fails if a run has left anything.
func isEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestRounds(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"as it is":        func(*Options) {},
		"two rounds":      func(o *Options) { o.Rounds = 2 },
		"from the file":   func(o *Options) { o.From = FromFile },
		"one of two":      func(o *Options) { o.Acks = AcksOne },
		"plain":           func(o *Options) { o.TLS = false },
		"alone":           func(o *Options) { o.Followers = 0 },
		"alone, with one": func(o *Options) { o.Followers, o.Acks = 0, AcksOne },
		"small messages":  func(o *Options) { o.Size, o.MB = 2000, 1 },
		"large messages":  func(o *Options) { o.Size, o.MB, o.From = 3<<20+7, 4, FromFile },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			o := options(t, &out)
			change(&o)
			if err := Run(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			isEmpty(t, o.Dir)
			lines := json.NewDecoder(&out)
			for round := range o.Rounds {
				var r Result
				if err := lines.Decode(&r); err != nil {
					t.Fatal(err)
				}
				if r.Round != round || r.MessageBytes != o.Size || r.Followers != o.Followers || r.TLS != o.TLS || r.From != o.From || r.Acks != o.Acks {
					t.Errorf("round %d: %+v of %+v", round, r, o)
				}
				if want := float64(o.messages()*o.Size) / 1e6; r.Megabytes-want > 0.001 || want-r.Megabytes > 0.001 {
					t.Errorf("%v MB, want %v", r.Megabytes, want)
				}
				if r.PerSecond <= 0 || r.Latency.P50 <= 0 || r.Latency.P99 < r.Latency.P50 {
					t.Errorf("measured %+v", r)
				}
			}
			if lines.More() {
				t.Error("there are more lines than rounds")
			}
		})
	}
}

// A ceiling that writes wrong bytes is none.
func TestWrongBytesFail(t *testing.T) {
	for who, how := range map[string]string{"leader": "flip", "follower-1": "cut", "follower-2": "flip"} {
		t.Run(who+" "+how, func(t *testing.T) {
			var out bytes.Buffer
			o := options(t, &out)
			t.Setenv(spoil, who+" "+how)
			if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the file of "+who+" has") {
				t.Errorf("got %v", err)
			}
			if out.Len() > 0 {
				t.Errorf("printed %s", &out)
			}
			isEmpty(t, o.Dir)
		})
	}
}

// A server that ends by itself ends the run, with what it said.
func TestALostServerFails(t *testing.T) {
	for _, who := range []string{"leader", "follower-2"} {
		t.Run(who, func(t *testing.T) {
			o := options(t, io.Discard)
			t.Setenv(spoil, who+" refuse")
			if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "as the test wants it") {
				t.Errorf("got %v", err)
			}
			isEmpty(t, o.Dir)
		})
	}
}

// cancelling ends a run once that has printed something.
type cancelling struct {
	cancel context.CancelCauseFunc
	cause  error
}

// Write is part of io.Writer.
func (c cancelling) Write(b []byte) (int, error) {
	c.cancel(c.cause)
	return len(b), nil
}

func TestARunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	o := options(t, cancelling{cancel, cause})
	o.Rounds = 1_000_000
	if err := Run(ctx, o); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	isEmpty(t, o.Dir)
}

func TestADiskThatHasNoRoomForIt(t *testing.T) {
	o := options(t, io.Discard)
	o.MB, o.Followers = mostMB, mostFollowers
	if free, _, err := vfs.OS().FreeBytes(o.Dir); err != nil || free > mostMB*1e6 {
		t.Skipf("%d bytes are free: this disk may have room (%v)", free, err)
	}
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "MB are free") {
		t.Errorf("got %v", err)
	}
	isEmpty(t, o.Dir)
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"rounds":       func(o *Options) { o.Rounds = 0 },
		"mb":           func(o *Options) { o.MB = 0 },
		"mb, most":     func(o *Options) { o.MB = mostMB + 1 },
		"window":       func(o *Options) { o.Window = 0 },
		"window, most": func(o *Options) { o.Window = mostWindow + 1 },
		"size":         func(o *Options) { o.Size = headBytes },
		"size, 4 M":    func(o *Options) { o.Size = 4<<20 + 1 },
		"message":      func(o *Options) { o.Size, o.MB = 2<<20, 1 },
		"followers":    func(o *Options) { o.Followers = -1 },
		"acks":         func(o *Options) { o.Acks = "some" },
		"from":         func(o *Options) { o.From = "" },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, io.Discard)
			change(&o)
			if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "-") {
				t.Errorf("got %v", err)
			}
			isEmpty(t, o.Dir)
		})
	}
}
