package wire

import "fmt"

// MalformedError says that a request is not a message that every protobuf
// parser reads alike.
type MalformedError struct {
	// Field names the field; "" if it is the whole request.
	Field string
	// Why says which rule is broken, for people.
	Why string
}

// Error says what is wrong, for people.
func (e *MalformedError) Error() string {
	if e.Field == "" {
		return "malformed request: " + e.Why
	}
	return "malformed request: " + e.Field + ": " + e.Why
}

// UnsupportedFieldError says that a request uses a field number below 1000
// that its schema does not define, or one that cannot be honoured.
type UnsupportedFieldError struct {
	// Message is the message type that has the field.
	Message string
	// Number is the field's.
	Number int32
}

// Error says what is wrong, for people.
func (e *UnsupportedFieldError) Error() string {
	return fmt.Sprintf("%s: field %d is not supported", e.Message, e.Number)
}

// InvalidValueError says that a field has a value that it cannot have.
type InvalidValueError struct {
	// Field names the field.
	Field string
	// Why says what it should be, for people.
	Why string
}

// Error says what is wrong, for people.
func (e *InvalidValueError) Error() string { return e.Field + ": " + e.Why }
