package bench

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheObjectHasTheFieldsThatAreReliedOn(t *testing.T) {
	cpu := 1.5
	for _, c := range []struct {
		r    Result
		want string
	}{
		{Result{}, "records errors seconds records_per_second megabytes_per_second latency_ms p50 p90 p99 p999 max"},
		{Result{ServerCPU: &cpu}, "records errors seconds records_per_second megabytes_per_second latency_ms p50 p90 p99 p999 max server_cpu_seconds_per_gb"},
	} {
		b, err := json.Marshal(c.r)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, part := range strings.Split(string(b), `"`) {
			if part = strings.TrimSpace(part); part != "" && strings.Trim(part, `:{},0123456789.`) != "" {
				names = append(names, part)
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("fields are %s\nwant %s", got, c.want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]Options{
		"topic":       {},
		"records":     {Topic: "t", Records: -1},
		"record-size": {Topic: "t", RecordSize: 4 << 20},
		"connections": {Topic: "t", Connections: 5000},
		"rate":        {Topic: "t", Rate: -1},
		"batch-bytes": {Topic: "t", BatchBytes: 5},
	} {
		var option *OptionError
		if err := RunProduce(t.Context(), o, io.Discard); !errors.As(err, &option) || option.Option != want {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Latency refuses what it would not measure: it would print zeros.
func TestLatencyIsRefusedWithoutARecordThatCounts(t *testing.T) {
	for want, o := range map[string]Options{
		"records":     {Topic: "t", Records: 200, Rate: 200},
		"record-size": {Topic: "t", RecordSize: stampBytes - 1},
		"topic":       {Records: 2, Rate: 1},
	} {
		var option *OptionError
		if err := RunLatency(t.Context(), o, io.Discard); !errors.As(err, &option) || option.Option != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	var option *OptionError
	if err := RunLatency(t.Context(), Options{Topic: "t", Records: DefaultRate}, io.Discard); !errors.As(err, &option) {
		t.Errorf("at the default rate: %v", err)
	}
}

func TestWorkIsSharedOut(t *testing.T) {
	for _, n := range []int64{0, 1, 7, 1000} {
		sum := int64(0)
		for i := range 3 {
			sum += share(n, i, 3)
		}
		if sum != n {
			t.Errorf("3 shares of %d are %d", n, sum)
		}
	}
}

func TestReadersStopWhenTheyHaveReadEnoughTogether(t *testing.T) {
	alone, shared := quota{want: 3}, quota{want: 3, shared: true}
	for own := int64(1); own <= 3; own++ {
		if alone.reached(own) != (own == 3) || shared.reached(1) != (own == 3) {
			t.Errorf("record %d: stopped too early or too late", own)
		}
	}
	if !shared.reached(1) {
		t.Error("a reader that was not the last does not stop")
	}
}

func TestPaceKeepsTheRate(t *testing.T) {
	start := time.Now()
	p, err := newPacer(start, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for i := range int64(50) {
		due, err := p.await(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if want := start.Add(time.Duration(i) * time.Millisecond); !due.Equal(want) || time.Now().Before(due) {
			t.Fatalf("record %d is due at %v, want %v, and it is %v", i, due.Sub(start), want.Sub(start), time.Since(start))
		}
	}
	if due := p.due(3_000_007); due.Sub(start) != 3000*time.Second+7*time.Millisecond {
		t.Errorf("due after %v", due.Sub(start))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.await(ctx, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestPayloadsAreOfOneSizeAndDiffer(t *testing.T) {
	for _, size := range []int{1, 100, 1 << 20, 3 << 20} {
		p := newPayloads(size)
		for i := range int64(2 * len(p)) {
			if len(p.at(i)) != size {
				t.Fatalf("payload %d has %d bytes, want %d", i, len(p.at(i)), size)
			}
		}
		if size >= 100 && len(p) > 1 && slices.Equal(p[0], p[1]) {
			t.Errorf("payloads of %d bytes are all the same", size)
		}
	}
}

func TestHistogramBoundsWhatItIsGiven(t *testing.T) {
	h := newHistogram()
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	l := h.latency()
	if l.P50 < 499 || l.P50 > 502 || l.P99 < 988 || l.P99 > 993 || l.Max < 999 || l.Max > 1002 {
		t.Errorf("%+v", l)
	}
	h.add(-time.Second)
	h.add(time.Hour)
	if l := h.latency(); l.Max > 121_000 {
		t.Errorf("%+v", l)
	}
}
