package proc

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"
)

func TestCPUTimeIsCounted(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, err := CPUSeconds([]int{os.Getpid()}); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v", err)
		}
		return
	}
	before, err := CPUSeconds([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		after, err := CPUSeconds([]int{os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("ten seconds of work took no CPU time")
		}
	}
	if _, err := CPUSeconds([]int{1 << 30}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a process that is not: %v", err)
	}
}

func TestNumber(t *testing.T) {
	const status = "Name:\tmillstream\nRssAnon:\t   37912 kB\nRssFile:\t 100 kB\nThreads:\t9\n"
	const metrics = "# HELP go_goroutines Number.\n# TYPE go_goroutines gauge\ngo_goroutines_more 5\ngo_goroutines 71\nx_bytes_total 1.5e+09\n"
	for _, c := range []struct {
		text, name string
		want       float64
	}{
		{status, "RssAnon:", 37912},
		{status, "Threads:", 9},
		{metrics, "go_goroutines ", 71},
		{metrics, "x_bytes_total ", 1.5e9},
	} {
		if got, err := Number(c.text, c.name); err != nil || got != c.want {
			t.Errorf("%q is %v, %v, want %v", c.name, got, err, c.want)
		}
	}
	for text, name := range map[string]string{status: "RssShmem:", metrics: "goroutines ", "": "x", "Name:\tx\n": "Name:"} {
		if got, err := Number(text, name); err == nil {
			t.Errorf("%q is %v in %q", name, got, text)
		}
	}
}
