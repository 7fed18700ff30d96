package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// errNotDone says that a command showed what it would do and was not told to.
var errNotDone = errors.New("nothing was changed: repeat with --yes to do it, or with --dry-run to look only")

// errDeclined says that somebody was asked and said no.
var errDeclined = errors.New("nothing was changed")

// consent is whether a command may do what it has planned.
type consent struct{ yes, dryRun bool }

func (a *consent) flags(c *cobra.Command) {
	c.Flags().BoolVar(&a.yes, "yes", false, "do it without asking")
	c.Flags().BoolVar(&a.dryRun, "dry-run", false, "show what would be done, change nothing")
}

func (a *consent) check(c *cobra.Command) error {
	if a.yes && a.dryRun {
		return misuse(c, "--yes and --dry-run exclude each other")
	}
	return nil
}

// agreed reports whether to go on. Unless that was said before, the plan is
// shown: on a terminal before the question, else as the result of the command,
// which then has done nothing.
func (p *Program) agreed(c *cobra.Command, a consent, plan any, tables ...*table) (bool, error) {
	switch {
	case a.yes:
		return true, nil
	case a.dryRun:
		return false, p.show(c, plan, tables...)
	case !isTerminal(p.In) || !isTerminal(p.Err):
		return false, errors.Join(p.show(c, plan, tables...), errNotDone)
	}
	for _, t := range tables {
		if err := t.write(p.Err); err != nil {
			return false, err
		}
	}
	if !asked(p.In, p.Err) {
		return false, errDeclined
	}
	return true, nil
}

// asked asks whether to go on. Everything but a yes is a no, the end as well.
func asked(in io.Reader, out io.Writer) bool {
	_, _ = fmt.Fprint(out, "Do it? [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// brokerArg reads the identity of a broker.
func brokerArg(c *cobra.Command, arg string) (int32, error) {
	id, err := strconv.ParseInt(arg, 10, 32)
	if err != nil || id < 0 {
		return 0, misuse(c, "BROKER %q is not a number from 0", arg)
	}
	return int32(id), nil
}

// throttleFlag adds --throttle.
func throttleFlag(c *cobra.Command, rate *uint64) {
	c.Flags().Uint64Var(rate, "throttle", 0, "most `BYTES` a second that each new replica is filled with; 0: as the controllers are set (move-bytes-per-second)")
}

// throttle says a rate for people.
func throttle(rate uint64) string {
	if rate == 0 {
		return "none"
	}
	return fmt.Sprintf("%d B/s", rate)
}
