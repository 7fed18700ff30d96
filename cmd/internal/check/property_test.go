package check

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// drawn lets rapid choose, so that it can shrink what fails.
type drawn struct{ *rapid.T }

func (d drawn) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(d.T, "n") }

// explain lists what is violated.
func explain(t interface {
	Helper()
	Logf(string, ...any)
}, r *Report) {
	t.Helper()
	for _, res := range r.Results {
		for _, v := range res.Violations {
			t.Logf("%s: %s (%v)", res.Rule, v.Text, v.Events)
		}
	}
}

// A history in which every promise was kept passes, whatever happened.
func TestKeptPromisesPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := newModel(drawn{t}).run(rapid.IntRange(0, 200).Draw(t, "steps"))
		if r := judge(events); len(r.Results) == 0 || failures(r) > 0 {
			explain(t, r)
			t.Fatal("a history without fault does not pass")
		}
	})
}

func failures(r *Report) int {
	_, failed := r.Counts()
	return failed
}

// The model has something to judge for every rule, so that passing means
// something.
func TestTheModelReachesEveryRule(t *testing.T) {
	checked := map[Rule]int64{}
	for seed := range uint64(200) {
		r := judge(newModel(rand.New(rand.NewPCG(seed, 0))).run(400))
		if failures(r) > 0 {
			explain(t, r)
			t.Fatalf("seed %d", seed)
		}
		for _, res := range r.Results {
			checked[res.Rule] += res.Checked
		}
	}
	for _, d := range Rules() {
		if checked[d.Rule] == 0 {
			t.Errorf("%s (%s) is never checked", d.Rule, d.Title)
		}
	}
}
