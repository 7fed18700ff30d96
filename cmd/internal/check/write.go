package check

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// Write prints a report: a line for each rule, with what violates it below.
// where says where an event stands.
func (r *Report) Write(w io.Writer, where func(history.Location) string) error {
	out := bufio.NewWriter(w) // its error comes with Flush
	for i := range r.Results {
		res := &r.Results[i]
		state := "pass"
		switch {
		case res.Violated > 0:
			state = "FAIL"
		case res.Checked == 0:
			state = "none"
		}
		_, _ = fmt.Fprintf(out, "%-4s  %-7s  %s", state, res.Rule, res.Title)
		if res.Checked == 0 && res.Violated == 0 {
			_, _ = fmt.Fprintf(out, " (needs %s)\n", res.Needs)
			continue
		}
		_, _ = fmt.Fprintf(out, " (%d checked)\n", res.Checked)
		for _, v := range res.Violations {
			_, _ = out.WriteString("        ")
			if v.Topic != "" {
				_, _ = fmt.Fprintf(out, "%s/%d: ", v.Topic, v.Partition)
			}
			_, _ = out.WriteString(v.Text)
			names := make([]string, len(v.Events))
			for i, l := range v.Events {
				names[i] = where(l)
			}
			if len(names) > 0 {
				_, _ = fmt.Fprintf(out, " [%s]", strings.Join(names, ", "))
			}
			_ = out.WriteByte('\n')
		}
		if more := res.Violated - int64(len(res.Violations)); more > 0 {
			_, _ = fmt.Fprintf(out, "        and %d more\n", more)
		}
	}
	_, _ = fmt.Fprintf(out, "%d events", r.Events)
	if r.Repeated > 0 {
		_, _ = fmt.Fprintf(out, "; %d batches are in the log again, as they were sent again", r.Repeated)
	}
	if r.Released > 0 {
		_, _ = fmt.Fprintf(out, "; %d times a batch was gone with as many brokers as its acknowledgement counted on", r.Released)
	}
	_ = out.WriteByte('\n')
	return out.Flush()
}
