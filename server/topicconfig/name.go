package topicconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxNameBytes is the length of the longest topic name.
const MaxNameBytes = 249

// NameError says that a topic name is not acceptable.
type NameError struct {
	// Name as given, cut to a printable length.
	Name string
	// Why it is refused.
	Why string
}

// Error says it for people.
func (e *NameError) Error() string {
	return "topic name " + quote(e.Name) + " " + e.Why
}

// ValidateName returns a *NameError unless name can be the name of a topic: 1
// to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', not beginning
// with '-', not "." or "..".
func ValidateName(name string) error {
	refuse := func(why string) error { return &NameError{Name: clip(name), Why: why} }
	switch {
	case name == "":
		return refuse("is empty")
	case len(name) > MaxNameBytes:
		return refuse(fmt.Sprintf("is %d bytes long; at most %d are allowed", len(name), MaxNameBytes))
	case name == "." || name == "..":
		return refuse("is not allowed")
	case name[0] == '-':
		return refuse("begins with '-'")
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return refuse("may have only a-z, A-Z, 0-9, '.', '_' and '-'")
		}
	}
	return nil
}

// ValidateNewName returns a *NameError unless a user may create a topic of
// that name: it is valid and not one of the system's.
func ValidateNewName(name string) error {
	if err := ValidateName(name); err != nil {
		return err
	}
	if Internal(name) {
		return &NameError{Name: name, Why: "begins with '__', which is kept for the system"}
	}
	return nil
}

// Internal reports whether name is one of the system's.
func Internal(name string) bool { return strings.HasPrefix(name, "__") }

func nameByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '.' || b == '_' || b == '-'
}

// clip makes of what a client sent a string that may be echoed and logged: of
// bounded length and valid UTF-8, as protobuf wants it.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// quote makes control characters and broken UTF-8 visible.
func quote(s string) string { return strconv.QuoteToASCII(s) }
