package cli

import (
	"encoding/json"
	"fmt"
	"strings"
)

// keyPath is the place of a key in a JSON object: the names of nested objects.
type keyPath []string

// parseKeyPath reads a dotted path.
func parseKeyPath(s string) (keyPath, error) {
	path := strings.Split(s, ".")
	for _, name := range path {
		if name == "" {
			return nil, fmt.Errorf("%q is not a path like a.b", s)
		}
	}
	return path, nil
}

// find returns the key in a JSON text: the bytes of a string, the text of a
// number or boolean; nil where there is none or it is null.
//
// REQUIRES: json.Valid(text).
func (path keyPath) find(text []byte) ([]byte, error) {
	s := jsonScanner{text, 0}
	for _, name := range path {
		if s.blank(); s.peek() != '{' || !s.enter(name) {
			return nil, nil
		}
	}
	s.blank()
	switch s.peek() {
	case '"':
		return s.text(), nil
	case 'n':
		return nil, nil
	case '{', '[':
		return nil, fmt.Errorf("%s is not a string, number or boolean", strings.Join(path, "."))
	}
	start := s.at
	s.skip()
	return s.b[start:s.at], nil
}

// jsonScanner walks JSON that is known to be valid.
type jsonScanner struct {
	b  []byte
	at int
}

func (s *jsonScanner) peek() byte {
	if s.at < len(s.b) {
		return s.b[s.at]
	}
	return 0
}

// blank steps over white space.
func (s *jsonScanner) blank() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// enter goes to the value of a member of the object that begins here. Of
// several with one name the last counts, as in most parsers. If there is none
// the scanner is behind the object.
func (s *jsonScanner) enter(name string) bool {
	found := -1
	s.at++ // {
	for {
		s.blank()
		switch s.peek() {
		case '}', 0:
			s.at++
			if found < 0 {
				return false
			}
			s.at = found
			return true
		case ',':
			s.at++
			continue
		}
		key := s.text()
		s.blank()
		s.at++ // :
		s.blank()
		if string(key) == name {
			found = s.at
		}
		s.skip()
	}
}

// skip steps over the value that begins here.
func (s *jsonScanner) skip() {
	depth := 0
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case '"':
			s.quoted()
		case '{', '[':
			depth++
			s.at++
			continue
		case '}', ']':
			if depth == 0 {
				return // the end of what the value is in
			}
			depth--
			s.at++
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return
			}
			s.at++
			continue
		default:
			s.literal()
		}
		if depth == 0 {
			return
		}
	}
}

// literal steps over a number, true, false or null.
func (s *jsonScanner) literal() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ',', ':', '}', ']', ' ', '\t', '\r', '\n':
			return
		}
		s.at++
	}
}

// quoted steps over the string that begins here and tells whether it has
// escapes.
func (s *jsonScanner) quoted() (escaped bool) {
	for s.at++; s.at < len(s.b); s.at++ {
		switch s.b[s.at] {
		case '\\':
			escaped = true
			s.at++
		case '"':
			s.at++
			return escaped
		}
	}
	return escaped
}

// text steps over the string that begins here and returns its bytes.
func (s *jsonScanner) text() []byte {
	start := s.at
	if !s.quoted() {
		return s.b[start+1 : s.at-1]
	}
	var decoded string
	if json.Unmarshal(s.b[start:s.at], &decoded) != nil { // cannot be: the text is valid
		return s.b[start+1 : s.at-1]
	}
	return []byte(decoded)
}
