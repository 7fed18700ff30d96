//go:build mutants

package sim

import (
	"testing"

	"github.com/millstream-io/millstream/server/replica"
)

// within is how many seeds it may take to find a mistake.
const within = 20

// TestMistakesAreFound puts one mistake after the other into the cores, and
// around them, and looks that some seed finds it. A check that no mistake trips
// is not known to check anything.
func TestMistakesAreFound(t *testing.T) {
	defer replica.Mutate(replica.Intact)
	for _, c := range []struct {
		name     string
		mutation replica.Mutation
		mistake  Mistake
	}{
		{"ack before sync", replica.AckBeforeSync, NoMistake},
		{"truncate to the high watermark", replica.TruncateToHighWatermark, NoMistake},
		{"ignore the min ISR", replica.IgnoreMinISR, NoMistake},
		{"take stale frames", replica.StaleFrames, NoMistake},
		{"skip the divergence check", replica.SkipDivergence, NoMistake},
		{"add who has not caught up", replica.UncleanReadd, NoMistake},
		{"hand over early", replica.HandOverEarly, NoMistake},
		{"append while handing over", replica.Intact, AppendWhileLeaving},
		{"no broker epoch check", replica.Intact, NoBrokerEpoch},
		{"go on after a failed sync", replica.Intact, RetrySync},
		{"count the lease by the time of day", replica.Intact, LeaseByTimeOfDay},
		{"take the time of an answer for that of the question", replica.Intact, HeardWhenAnswered},
		{"count sessions by the time of day", replica.Intact, SessionsByTimeOfDay},
		{"trust the page cache after a failed sync", replica.Intact, TrustPageCache},
	} {
		t.Run(c.name, func(t *testing.T) {
			replica.Mutate(c.mutation)
			for seed := uint64(1); seed <= within; seed++ {
				if r := Run(seed, c.mistake); r.Violation != nil {
					t.Log(r)
					return
				}
			}
			t.Errorf("not found in %d seeds", within)
		})
	}
}
