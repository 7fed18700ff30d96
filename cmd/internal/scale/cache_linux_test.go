package scale

import (
	"os"
	"path/filepath"
	"testing"
)

func TestResidency(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 1<<20+1), 0o644); err != nil {
		t.Fatal(err)
	}
	files := []string{file, file + ".removed"}
	if got, err := residency(files); err != nil || got != 1 {
		t.Fatalf("just written: %v, %v", got, err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := evict(files); err != nil {
		t.Fatal(err)
	}
	if got, err := residency(files); err != nil {
		t.Fatal(err)
	} else if got > 0.01 {
		t.Skipf("%v of it stays in memory: this is no disk", got)
	}
	if err := warm(files); err != nil {
		t.Fatal(err)
	}
	if got, err := residency(files); err != nil || got != 1 {
		t.Fatalf("read: %v, %v", got, err)
	}
}
