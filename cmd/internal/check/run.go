package check

import (
	"errors"
	"io"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// Run checks what a reader reads, to its end. The error is the reader's: then
// the history is not what recorders write, and there is no report.
func Run(r *history.Reader) (*Report, error) {
	c := New(r.Recorders())
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return c.Finish(), nil
		}
		if err != nil {
			return nil, err
		}
		c.Observe(e)
	}
}
