package history

import (
	"encoding/json"
	"math"
)

// decoder reads lines. What a Writer writes it reads by itself, for millions of
// lines are to be read in seconds; whatever else is JSON goes to encoding/json,
// which decides then.
//
// INVARIANT: a line that it reads by itself, encoding/json reads as the same
// event (FuzzDecode).
type decoder struct {
	b     []byte
	i     int
	bad   bool              // this is for encoding/json
	words map[string]string // the few strings that come again and again
}

// maxWords bounds words, and maxWord their length.
const (
	maxWords = 1024
	maxWord  = 64
)

func newDecoder() *decoder { return &decoder{words: map[string]string{}} }

// decode reads a line into a zero event.
func (d *decoder) decode(line []byte, e *Event) error {
	d.b, d.i, d.bad = line, 0, false
	d.event(e)
	if !d.bad && d.i == len(d.b) {
		return nil
	}
	*e = Event{}
	return json.Unmarshal(line, e)
}

// take passes over a byte if it is next.
func (d *decoder) take(c byte) bool {
	if d.i < len(d.b) && d.b[d.i] == c {
		d.i++
		return true
	}
	return false
}

// must passes over a byte that has to be next.
func (d *decoder) must(c byte) {
	if !d.take(c) {
		d.bad = true
	}
}

// object calls field for each key, to read its value.
func (d *decoder) object(field func(key string)) {
	d.must('{')
	if d.take('}') {
		return
	}
	for !d.bad {
		key := d.text()
		d.must(':')
		if d.bad {
			return
		}
		field(d.word(key))
		if d.take('}') {
			return
		}
		d.must(',')
	}
}

// array calls item for each item, to read it.
func (d *decoder) array(item func()) {
	d.must('[')
	if d.take(']') {
		d.bad = true // an empty one is not nil: leave it
		return
	}
	for !d.bad {
		item()
		if d.take(']') {
			return
		}
		d.must(',')
	}
}

// text reads a string without escapes. BORROWED: from the line.
func (d *decoder) text() []byte {
	d.must('"')
	for start := d.i; d.i < len(d.b) && !d.bad; d.i++ {
		switch c := d.b[d.i]; {
		case c == '"':
			d.i++
			return d.b[start : d.i-1]
		case c == '\\' || c < 0x20 || c >= 0x80:
			d.bad = true
		}
	}
	d.bad = true
	return nil
}

// word makes a string of text; of one that was seen before, the same.
func (d *decoder) word(b []byte) string {
	if w, ok := d.words[string(b)]; ok {
		return w
	}
	w := string(b)
	if len(w) <= maxWord && len(d.words) < maxWords {
		d.words[w] = w
	}
	return w
}

func (d *decoder) string() string { return d.word(d.text()) }

// int reads an integer of at most 18 digits.
func (d *decoder) int() int64 {
	negative := d.take('-')
	start, n := d.i, int64(0)
	for d.i < len(d.b) && d.b[d.i] >= '0' && d.b[d.i] <= '9' {
		n = n*10 + int64(d.b[d.i]-'0')
		if d.i++; d.i-start > 18 {
			d.bad = true
			return 0
		}
	}
	if d.i == start || d.b[start] == '0' && d.i > start+1 {
		d.bad = true
	}
	if negative {
		return -n
	}
	return n
}

// within reads an integer of a range.
func (d *decoder) within(least, most int64) int64 {
	n := d.int()
	if n < least || n > most {
		d.bad = true
	}
	return n
}

// unsigned reads an integer of at most that, without a sign: encoding/json
// does not take -0 for one.
func (d *decoder) unsigned(most int64) int64 {
	if d.i < len(d.b) && d.b[d.i] == '-' {
		d.bad = true
	}
	return d.within(0, most)
}

func (d *decoder) int32() int32   { return int32(d.within(math.MinInt32, math.MaxInt32)) }
func (d *decoder) uint32() uint32 { return uint32(d.unsigned(math.MaxUint32)) }
func (d *decoder) uint64() uint64 { return uint64(d.unsigned(math.MaxInt64)) }

func (d *decoder) bool() bool {
	for _, w := range []string{"true", "false"} {
		if end := d.i + len(w); end <= len(d.b) && string(d.b[d.i:end]) == w {
			d.i = end
			return w == "true"
		}
	}
	d.bad = true
	return false
}

func (d *decoder) digest() Digest {
	b := d.text()
	if len(b) != 16 {
		d.bad = true
		return 0
	}
	n := uint64(0)
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			d.bad = true
		}
	}
	return Digest(n)
}
