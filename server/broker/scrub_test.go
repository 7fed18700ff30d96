package broker

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A round reads everything that is on disk once, and the next one waits.
func TestAScrubReadsEverythingOnceARound(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.opts.ScrubBytes = 1 << 20
		read := func() float64 {
			families, err := e.b.opts.Registerer.(*prometheus.Registry).Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == "millstream_log_scrubbed_bytes_total" {
					return f.GetMetric()[0].GetCounter().GetValue()
				}
			}
			t.Fatal("nothing counts what is scrubbed")
			return 0
		}
		e.start()
		e.cluster.create(1, "flights", 3, nil)
		for p := range uint32(3) {
			e.mustProduce("flights", p, "a record")
		}
		pass(time.Minute)
		once := read()
		if once == 0 {
			t.Fatal("nothing was read")
		}
		pass(e.b.opts.ScrubRound / 2)
		if got := read(); got != once {
			t.Errorf("%v bytes were read between two rounds", got-once)
		}
		pass(e.b.opts.ScrubRound)
		if got := read(); got != 2*once {
			t.Errorf("%v bytes were read in two rounds, %v in one", got, once)
		}
	})
}
