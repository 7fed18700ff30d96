package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// table is a result for people. Columns of numbers are not aligned otherwise
// than text, so that awk and cut see them alike.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		if row[i] = fmt.Sprint(c); row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range append([][]string{t.header}, t.rows...) {
		if _, err := io.WriteString(tw, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// show prints a result in the form that was asked for: view as JSON or YAML,
// or the tables, parted by an empty line.
func (p *Program) show(c *cobra.Command, view any, tables ...*table) error {
	switch p.output {
	case "", "table":
		out := bufio.NewWriter(p.Out)
		for i, t := range tables {
			if i > 0 {
				_ = out.WriteByte('\n') // the error comes with Flush
			}
			if err := t.write(out); err != nil {
				return err
			}
		}
		return out.Flush()
	case "json":
		return p.showJSON(view)
	case "yaml":
		b, err := yaml.MarshalWithOptions(view, yaml.IndentSequence(true))
		if err != nil {
			return err
		}
		_, err = p.Out.Write(b)
		return err
	}
	return misuse(c, "output %q: must be table, json or yaml", p.output)
}

// checkOutput refuses an output that show would, before anything is done.
func (p *Program) checkOutput(c *cobra.Command) error {
	switch p.output {
	case "", "table", "json", "yaml":
		return nil
	}
	return misuse(c, "output %q: must be table, json or yaml", p.output)
}

func (p *Program) showJSON(view any) error {
	b, err := marshalJSON(view, "  ")
	if err != nil {
		return err
	}
	_, err = p.Out.Write(b)
	return err
}

// marshalJSON is JSON with a newline, and with <, > and & as they are.
func marshalJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// counted is a number of things: 1 record, 2 records.
func counted[N int | int64 | uint32](n N, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// refusedOf says how many partitions of those were refused.
func refusedOf(n, all int) string {
	were := "were"
	if n == 1 {
		were = "was"
	}
	return fmt.Sprintf("%d of %s %s refused", n, counted(all, "partition", "partitions"), were)
}

// brokersNamed names brokers: broker 2, brokers 2,4.
func brokersNamed(all []int32) string {
	if len(all) == 1 {
		return fmt.Sprintf("broker %d", all[0])
	}
	return "brokers " + ids(all)
}

// done reports on standard error that something was done. Who closed that
// does not want to know.
func (p *Program) done(format string, args ...any) { _, _ = fmt.Fprintf(p.Err, format+"\n", args...) }
