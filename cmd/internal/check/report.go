package check

import (
	"fmt"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// kept is how many violations of a rule are kept; the others are counted.
const kept = 20

// Violation is a promise that was not kept.
type Violation struct {
	Topic     string
	Partition uint32
	Text      string
	// Events that show it.
	Events []history.Location
}

// Result is what was found of one rule.
type Result struct {
	Description
	// Checked is how often there was something to judge.
	Checked int64
	// Violated is how often it was found violated.
	Violated   int64
	Violations []Violation // the first of them
}

// Passed tells whether the rule was checked and held.
func (r *Result) Passed() bool { return r.Checked > 0 && r.Violated == 0 }

// Report is what was found in a history.
type Report struct {
	Events  int64
	Results []Result
	// Repeated counts batches that are in a log more than once and may be,
	// since they were sent more than once.
	Repeated int64
	// Released counts acknowledged batches that are gone and may be, since as
	// many brokers lost them as the acknowledgement counted on.
	Released int64
}

// Counts returns how many rules passed and failed; those without anything to
// judge are in neither.
func (r *Report) Counts() (passed, failed int) {
	for i := range r.Results {
		switch {
		case r.Results[i].Violated > 0:
			failed++
		case r.Results[i].Checked > 0:
			passed++
		}
	}
	return passed, failed
}

// Require counts rules that had nothing to judge as violated.
func (r *Report) Require(rules []string) {
	for i := range r.Results {
		res := &r.Results[i]
		for _, name := range rules {
			if string(res.Rule) == name && res.Checked == 0 {
				res.Violated, res.Violations = 1, []Violation{{Text: "required, and nothing was there to judge: it needs " + res.Needs}}
			}
		}
	}
}

// Result returns what was found of a rule.
func (r *Report) Result(rule Rule) Result {
	for i := range r.Results {
		if r.Results[i].Rule == rule {
			return r.Results[i]
		}
	}
	return Result{}
}

// tally collects what the bookkeepers find.
type tally struct {
	Report
	index map[Rule]int
}

func newTally() *tally {
	t := &tally{index: map[Rule]int{}}
	for i, d := range Rules() {
		t.Results = append(t.Results, Result{Description: d})
		t.index[d.Rule] = i
	}
	return t
}

// scribe notes what is found in one partition.
type scribe struct {
	topic     string
	partition uint32
	tally     *tally
}

// judged counts that a rule was looked at.
func (s scribe) judged(r Rule) { s.tally.Results[s.tally.index[r]].Checked++ }

// violated notes a violation; one of a rule that was not looked at counts as a
// look.
func (s scribe) violated(r Rule, events []history.Location, format string, args ...any) {
	res := &s.tally.Results[s.tally.index[r]]
	res.Violated++
	res.Checked = max(res.Checked, 1)
	if len(res.Violations) < kept {
		res.Violations = append(res.Violations, Violation{s.topic, s.partition, fmt.Sprintf(format, args...), events})
	}
}

// at lists the events of a violation, without those that are nowhere.
func at(l ...history.Location) []history.Location {
	out := l[:0]
	for _, l := range l {
		if l.Line > 0 {
			out = append(out, l)
		}
	}
	return out
}
