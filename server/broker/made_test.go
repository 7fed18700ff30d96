package broker

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/millstream-io/millstream/storage/vfs"
)

// Only a copy that was made of a directory in use, or of what a killed process has
// left, is one that may lack something.
func TestACopyOfADirectoryIsToldAsOne(t *testing.T) {
	for name, c := range map[string]struct {
		clean       bool
		before, now string
		want        bool
	}{
		"the same":              {false, "1.5", "1.5", false},
		"a copy":                {false, "1.5", "9.5", true},
		"a copy of one at rest": {true, "1.5", "9.5", false},
		"it was not known":      {false, "", "9.5", false},
		"it is not known":       {false, "1.5", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *env) {
				made := c.before
				e.opts.MadeAt = func(path string) string {
					if path != dataDir+"/lock" {
						t.Errorf("asked for %s", path)
					}
					return made
				}
				e.start()
				inc := *e.b.identity.Load()
				if err := e.halt(); err != nil {
					t.Fatal(err)
				}
				if inc.Made != c.before {
					t.Errorf("it has written down %q", inc.Made)
				}
				inc.Clean = c.clean
				if err := inc.store(e.mem, dataDir); err != nil {
					t.Fatal(err)
				}
				made = c.now
				e.start()
				if got := e.cluster.registered[1].GetCopied(); got != c.want {
					t.Errorf("told as a copy: %v", got)
				}
				// It has been told, and is a directory like others from now on.
				inc = *e.b.identity.Load()
				if inc.copied(c.now) {
					t.Errorf("it would be told again: %+v", inc)
				}
				if err := e.halt(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// What is written to a file, or done with it, makes it no other.
func TestWhenAFileWasMade(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	if err := os.WriteFile(path, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := MadeAt(path)
	if made == "" {
		t.Skip("this file system does not say when a file was made")
	}
	if err := os.WriteFile(path, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(dir, "moved")
	if err := vfs.OS().Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if got := MadeAt(moved); got != made {
		t.Errorf("it was made at %s, and at %s when it had been written to and moved", made, got)
	}
	b, err := os.ReadFile(moved)
	if err != nil {
		t.Fatal(err)
	}
	for { // the clock of a file system has ticks
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if MadeAt(path) != made {
			break
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if MadeAt(filepath.Join(dir, "none")) != "" {
		t.Error("a file that is not there was made")
	}
}
