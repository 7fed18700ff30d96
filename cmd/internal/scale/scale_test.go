package scale

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	millstream "github.com/millstream-io/millstream/clients/go"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFootprintOfThisProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("there is no /proc")
	}
	m, err := footprint(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m {
		if n, ok := f.value.(float64); !ok || n <= 0 {
			t.Errorf("%s is %v", f.name, f.value)
		}
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for q, want := range map[float64]int{0: 1, 0.5: 50, 0.99: 99, 0.999: 100, 1: 100} {
		if got := quantile(hundred, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if got := quantile([]int{7}, 0.99); got != 7 {
		t.Errorf("of one value: %d", got)
	}
	if got := quantile([]int(nil), 0.5); got != 0 {
		t.Errorf("of none: %d", got)
	}
}

func TestNumbers(t *testing.T) {
	if got, err := numbers("1,0.5,20"); err != nil || !slices.Equal(got, []float64{1, 0.5, 20}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "1,", "0", "-1", "x"} {
		if _, err := numbers(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// One line a measurement as JSON, in order; one line a set of conditions in
// the table, with the median.
func TestResults(t *testing.T) {
	var out, table bytes.Buffer
	r := results{out: &out}
	for round, v := range []float64{3, 1, 2.00049} {
		for _, part := range []string{"a", "b"} {
			if err := r.add(measurement{{"part", part}, {"round", round}, {"z_ms", v}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.table(&table); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 6 || lines[4] != `{"part":"a","round":2,"z_ms":2}` {
		t.Errorf("printed %q", lines)
	}
	want := "part z_ms a 2 b 2"
	if got := strings.Join(strings.Fields(table.String()), " "); got != want {
		t.Errorf("table is %q, want %q", got, want)
	}
}

// Batches settle the oldest records of their partition, and records without a
// time are not counted.
func TestPacedSettles(t *testing.T) {
	now := time.Now()
	p := paced{waiting: [][]time.Time{{now.Add(-time.Hour)}, {{}, now.Add(-time.Minute), now.Add(-time.Second)}}}
	p.settle(millstream.BatchResult{Place: millstream.Place{Partition: 1}, Records: 2})
	if len(p.took) != 1 || p.took[0] < time.Minute || p.took[0] > 2*time.Minute || len(p.waiting[1]) != 1 || len(p.waiting[0]) != 1 {
		t.Errorf("took %v, waiting %v", p.took, p.waiting)
	}
	lost := errors.New("lost")
	p.settle(millstream.BatchResult{Records: 1, Err: lost})
	if !errors.Is(p.failed, lost) {
		t.Errorf("failed is %v", p.failed)
	}
}

func TestADiskThatIsTooSmallIsRefused(t *testing.T) {
	err := room(t.TempDir(), 1e9)
	if err == nil || !strings.Contains(err.Error(), "are needed") {
		t.Fatalf("got %v", err)
	}
	if err := room(t.TempDir(), 0); err != nil {
		t.Fatal(err)
	}
}

// Nothing is left behind, whatever happens.
func TestRunCleansUp(t *testing.T) {
	dir := t.TempDir()
	for _, part := range []string{"idle", "nothing"} {
		var out bytes.Buffer
		err := Run(context.Background(), Options{
			Binary: "/does/not/exist", Dir: dir, Out: &out, Log: &out, Parts: []string{part}, Partitions: "1", GB: "1",
		})
		if err == nil {
			t.Fatalf("%s: no error", part)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Fatalf("left %v, %v", left, err)
	}
}
