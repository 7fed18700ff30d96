package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millstream-io/millstream/cmd/internal/check"
	"github.com/millstream-io/millstream/cmd/internal/history"
)

func (p *Program) checkCommand() *cobra.Command {
	var require []string
	c := &cobra.Command{
		Use: "check DIR", Short: "Check a history: whether what clients and brokers wrote down keeps the promises",
		Long: `Check a history: whether what clients and brokers wrote down, during a crash
test or any other, can have happened if nothing acknowledged is lost. DIR holds
the files of all recorders (docs/format/history.md).

A line for each rule says whether it held (pass), was violated (FAIL), or had
nothing to judge (none). Below a rule that was violated are the violations, with
the events that show them. The last line is 'N passed, N failed', counted in
rules; exit code 1 says that one failed. --require names rules that fail if they
had nothing to judge.`,
		Example: `  go run ./cmd/crash -cycles 20 -history /tmp/history
  millstream check /tmp/history`,
		Args: takes("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if p.output != "" && p.output != "table" {
				return misuse(c, "output %q: check has one form only", p.output)
			}
			for _, r := range require {
				if !slices.ContainsFunc(check.Rules(), func(d check.Description) bool { return string(d.Rule) == r }) {
					return misuse(c, "--require %q: not a rule; they are %s", r, ruleNames())
				}
			}
			return p.check(args[0], require)
		},
	}
	c.Flags().StringSliceVar(&require, "require", nil, "`RULES` that must have had something to judge")
	return c
}

func ruleNames() string {
	var names []string
	for _, d := range check.Rules() {
		names = append(names, string(d.Rule))
	}
	return strings.Join(names, ", ")
}

// check checks a directory. Of one that cannot be read nothing is known: that
// counts as one rule that failed.
func (p *Program) check(dir string, require []string) error {
	passed, failed := 0, 1
	report, where, err := readHistory(dir)
	if err == nil {
		report.Require(require)
		passed, failed = report.Counts()
		err = report.Write(p.Out, where)
	}
	if _, werr := fmt.Fprintf(p.Out, "%d passed, %d failed\n", passed, failed); err == nil {
		err = werr
	}
	if err == nil && failed > 0 {
		return errReported
	}
	return err
}

func readHistory(dir string) (*check.Report, func(history.Location) string, error) {
	r, err := history.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	report, err := check.Run(r)
	return report, r.Where, err
}
