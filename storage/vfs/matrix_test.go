package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// machine runs a script on a file system and writes down what it answers, in
// words that do not depend on the implementation.
type machine struct {
	fs      vfs.FS
	root    string
	handles map[string]vfs.File
	locks   map[string]io.Closer
}

// machines are the implementations: what one of them answers, all must.
func machines(t testing.TB) map[string]*machine {
	t.Helper()
	ram, ramUnderFaults := memfs.New(), memfs.New()
	all := map[string]*machine{
		"os":              {fs: vfs.OS(), root: t.TempDir()},
		"memfs":           {fs: ram, root: "/root"},
		"faultfs, os":     {fs: faultfs.Wrap(vfs.OS()), root: t.TempDir()},
		"faultfs, memory": {fs: faultfs.Wrap(ramUnderFaults), root: "/root"},
	}
	for _, m := range all {
		m.handles, m.locks = map[string]vfs.File{}, map[string]io.Closer{}
		if err := m.fs.MkdirAll(m.root, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, h := range m.handles {
				_ = h.Close()
			}
			for _, l := range m.locks {
				_ = l.Close()
			}
		})
	}
	return all
}

// answer is an error in words.
func answer(err error) string {
	var errno syscall.Errno
	var locked *vfs.LockedError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, io.EOF):
		return "end of file"
	case errors.Is(err, os.ErrClosed):
		return "closed"
	case errors.As(err, &locked):
		return fmt.Sprintf("locked by %v", locked.PID == os.Getpid())
	case errors.As(err, &errno):
		return fmt.Sprintf("%s (sync %v, full %v)", errno.Error(), vfs.IsSync(err), vfs.IsFull(err))
	default:
		return "other: " + err.Error()
	}
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

// run makes one operation: a verb, names, numbers.
func (m *machine) run(op string) string {
	var verb, a, b string
	var x, y int64
	f := strings.Fields(op)
	verb = f[0]
	if len(f) > 1 {
		a = f[1]
	}
	if len(f) > 2 {
		b = f[2]
		_, _ = fmt.Sscan(f[2], &x)
	}
	if len(f) > 3 {
		_, _ = fmt.Sscan(f[3], &y)
	}
	if out, ok := m.runTree(verb, a, b); ok {
		return out
	}
	h, ok := m.handles[a]
	if !ok {
		return "no such handle"
	}
	return runFile(h, verb, x, y)
}

var flags = map[string]int{
	"read": os.O_RDONLY, "write": os.O_WRONLY, "both": os.O_RDWR,
	"create": os.O_RDWR | os.O_CREATE, "exclusive": os.O_RDWR | os.O_CREATE | os.O_EXCL,
	"empty": os.O_RDWR | os.O_CREATE | os.O_TRUNC, "append": os.O_RDWR | os.O_CREATE | os.O_APPEND,
}

// runTree makes the operations that take names. A handle is named after its
// file.
func (m *machine) runTree(verb, a, b string) (string, bool) {
	switch verb {
	case "open":
		h, err := m.fs.OpenFile(m.path(a), flags[b], 0o644)
		if err == nil {
			if old, ok := m.handles[a]; ok {
				_ = old.Close()
			}
			m.handles[a] = h
		}
		return answer(err), true
	case "remove":
		return answer(m.fs.Remove(m.path(a))), true
	case "removeall":
		return answer(m.fs.RemoveAll(m.path(a))), true
	case "rename":
		return answer(m.fs.Rename(m.path(a), m.path(b))), true
	case "mkdir":
		return answer(m.fs.MkdirAll(m.path(a), 0o755)), true
	case "syncdir":
		return answer(m.fs.SyncDir(m.path(a))), true
	case "stat":
		st, err := m.fs.Stat(m.path(a))
		if err != nil {
			return answer(err), true
		}
		return describe(st), true
	case "list":
		entries, err := m.fs.ReadDir(m.path(a))
		var out []string
		for _, e := range entries {
			st, err := e.Info()
			if err != nil {
				return answer(err), true
			}
			out = append(out, describe(st))
		}
		return fmt.Sprint(out, answer(err)), true
	case "lock":
		l, err := m.fs.Lock(m.path(a))
		if err == nil {
			m.locks[a] = l
		}
		return answer(err), true
	case "unlock":
		if l, ok := m.locks[a]; ok {
			delete(m.locks, a)
			return answer(l.Close()), true
		}
		return "no such lock", true
	case "free":
		free, total, err := m.fs.FreeBytes(m.path(a))
		return fmt.Sprint(answer(err), free <= total, err != nil || total > 0), true
	}
	return "", false
}

func describe(st fs.FileInfo) string {
	if st.IsDir() {
		return st.Name() + "/"
	}
	return fmt.Sprintf("%s %d %v", st.Name(), st.Size(), st.Mode())
}

// runFile makes the operations of a file.
func runFile(h vfs.File, verb string, x, y int64) string {
	switch verb {
	case "write":
		n, err := h.WriteAt(bytes.Repeat([]byte{byte('a' + (x+y)%26)}, int(y)), x)
		return fmt.Sprint(n, " ", answer(err))
	case "writev":
		var pieces [][]byte
		for i := range y {
			pieces = append(pieces, bytes.Repeat([]byte{byte('A' + i%26)}, int(i%5)))
		}
		n, err := h.Writev(pieces, x)
		return fmt.Sprint(n, " ", answer(err))
	case "read":
		b := make([]byte, y)
		n, err := h.ReadAt(b, x)
		return fmt.Sprintf("%d %q %s", n, b[:n], answer(err))
	case "truncate":
		return answer(h.Truncate(x))
	case "sync":
		return answer(h.Sync())
	case "size":
		n, err := h.Size()
		return fmt.Sprint(n, " ", answer(err))
	case "name":
		return filepath.Base(h.Name())
	case "close":
		return answer(h.Close())
	}
	return "no such verb " + verb
}

// compare runs a script on all and reports the first difference.
func compare(t *testing.T, script []string) map[string]bool {
	t.Helper()
	all := machines(t)
	seen := map[string]bool{}
	for i, op := range script {
		want := all["os"].run(op)
		seen[want] = true
		for name, m := range all {
			if name == "os" {
				continue
			}
			if got := m.run(op); got != want {
				t.Fatalf("operation %d, %q\n%-16s %s\n%-16s %s\nbefore it:\n%s", i, op,
					"os:", want, name+":", got, strings.Join(script[max(0, i-20):i], "\n"))
			}
		}
	}
	return seen
}

// TestAllAnswerAlike is the matrix: each line on each implementation.
func TestAllAnswerAlike(t *testing.T) {
	for name, script := range map[string]string{
		"files": `open f read; open f create; open f exclusive; stat f; write f 0 10; write f 100 5; size f; read f 0 105
			read f 95 20; read f 105 1; read f 200 1; read f 0 0; read f 500 0; write f 0 0; write f 900 0; size f; write f -1 3; read f -1 3; read f -1 0
			truncate f 3; read f 0 10; truncate f 20; read f 0 30; truncate f -1; sync f; name f; close f; close f
			read f 0 1; write f 0 1; writev f 0 3; sync f; size f; truncate f 0; stat f; open f empty; size f; open f append; name f`,
		"directions": `open f create; write f 0 10; open f read; write f 0 1; writev f 0 3; truncate f 0; read f 0 3; sync f; write f 0 0; writev f 0 0
			open f write; read f 0 1; read f 0 0; write f 3 3; size f; sync f`,
		"pieces": `open f create; writev f 0 0; writev f 0 1; size f; writev f 7 3000; size f; read f 0 6100; writev f 0 1024; writev f 3 1025; read f 0 2100
			writev f -1 3`,
		"directories": `mkdir d/e/g; mkdir d/e; stat d; list .; list d; list d/x; open d/e/f create; write d/e/f 0 3; list d/e; remove d/e
			remove d/e/g; remove d/e/g; removeall d/e; list d; removeall d/e; removeall d/none/none; removeall d; list .
			open f create; mkdir f; mkdir f/d; list f; stat f/x; open f/x create; open none/x create; removeall f/x; remove f/x; syncdir f; syncdir none; syncdir .
			rename f/x g; rename f none/g`,
		"renames": `open f create; write f 0 5; rename f g; list .; rename f g; stat f; read f 0 5; write f 5 5; stat g
			open h create; rename g h; list .; stat h; mkdir d/e; rename h d; rename d h; rename d d/e/x; rename d d; rename h h; rename d d2; list d2; rename h d2/e/h; list d2/e
			rename d2/e/none x; mkdir d3; rename d3 d2; rename d3 d2/e; stat d3`,
		"removed but open": `open f create; write f 0 5; remove f; read f 0 5; write f 5 5; size f; sync f; stat f; open f read; close f`,
		"locks":            `lock l; lock l; stat l; unlock l; lock l; lock none/l; mkdir d; lock d/l; lock d/l; unlock d/l; unlock l; lock d/../l; unlock d/../l`,
		"space":            `free .; free none; open f create; free f`,
	} {
		t.Run(name, func(t *testing.T) {
			var script2 []string
			for _, op := range strings.FieldsFunc(script, func(r rune) bool { return r == ';' || r == '\n' }) {
				script2 = append(script2, strings.TrimSpace(op))
			}
			compare(t, script2)
		})
	}
}

// TestRandomScriptsAnswerAlike finds what nobody thought of.
func TestRandomScriptsAnswerAlike(t *testing.T) {
	names := []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "none/a", "a/x"}
	seen := map[string]bool{}
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 3))
		pick := func(of ...string) string { return of[rng.IntN(len(of))] }
		var script []string
		for range 300 {
			name := pick(names...)
			switch verb := pick("open", "open", "open", "remove", "removeall", "rename", "mkdir", "syncdir", "stat", "list",
				"write", "write", "writev", "read", "read", "truncate", "sync", "size", "close"); verb {
			case "open":
				script = append(script, "open "+name+" "+pick("read", "write", "both", "create", "create", "exclusive", "empty"))
			case "rename":
				script = append(script, "rename "+name+" "+pick(names...))
			case "write", "writev", "read":
				script = append(script, fmt.Sprintf("%s %s %d %d", verb, name, rng.IntN(6000), 1+rng.IntN(3000)))
			case "truncate":
				script = append(script, fmt.Sprintf("truncate %s %d", name, rng.IntN(9000)))
			default:
				script = append(script, verb+" "+name)
			}
		}
		for _, name := range names {
			script = append(script, "list "+name, "stat "+name, "open "+name+" read", "read "+name+" 0 20000")
		}
		for out := range compare(t, script) {
			seen[out] = true
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d different answers: the scripts do too little", len(seen))
	}
}
