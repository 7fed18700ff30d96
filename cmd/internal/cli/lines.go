package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxLineBytes bounds what is held of a line: more than any record may have.
const maxLineBytes = 4 << 20

// lineError says what is wrong with a line of input.
type lineError struct {
	line int64
	why  string
}

// Error says it for people.
func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.why) }

// lineReader reads lines of any length up to a limit, without a copy where one
// fits the buffer.
type lineReader struct {
	r    *bufio.Reader
	n    int64  // lines read
	long []byte // a line that did not fit the buffer
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 256<<10)}
}

// next returns the next line without its newline; io.EOF after the last. A
// last line without newline is a line.
//
// BORROWED: the line is valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	l.long = l.long[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		switch {
		case err == nil:
			part = part[:len(part)-1]
		case errors.Is(err, io.EOF) && len(part)+len(l.long) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
		case errors.Is(err, bufio.ErrBufferFull):
			if len(l.long)+len(part) > maxLineBytes {
				return nil, &lineError{l.n + 1, fmt.Sprintf("longer than %d bytes", maxLineBytes)}
			}
			l.long = append(l.long, part...)
			continue
		default:
			return nil, fmt.Errorf("standard input: %w", err)
		}
		l.n++
		if len(l.long) > 0 {
			l.long = append(l.long, part...)
			return l.long, nil
		}
		return part, nil
	}
}
