// Package settings gives a process its configuration: it reads a struct's tags
// once and makes of each field a flag, an environment variable and a YAML key
// of the same name.
//
// A field `GRPCAddr string` tagged `name:"grpc-addr"` is the flag --grpc-addr,
// the variable MILLSTREAM_GRPC_ADDR and the key `grpc-addr` of a file. The tags
// `doc` (what it is) and `change` (the symptom that calls for changing it) are
// required: they are the reference documentation. The tag `env` gives the
// variable another name, in capitals and without the prefix: the flag --id of a
// broker is MILLSTREAM_BROKER_ID. Embedded structs are groups.
//
// It owns names, precedence (flag, environment, file, default) and where a
// value came from; it refuses to own what a value means: the structs validate
// themselves.
//
// INVARIANT: a name that no field has is an error that says where it stands,
// in a flag, in the environment or in a file. It starts no goroutine and keeps
// no state.
package settings

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// EnvPrefix begins the name of every environment variable of Millstream.
const EnvPrefix = "MILLSTREAM_"

// Setting is one field of a configuration.
type Setting struct {
	// Name of the flag and of the YAML key.
	Name string
	// Doc says what the setting is.
	Doc string
	// Change is the symptom that calls for changing it.
	Change string
	// Default is the value in the struct when it was walked, as text.
	Default string
	// Env is the name of its environment variable.
	Env string
	// Kind of value, for help: text, number, yes/no, duration, size, list.
	Kind string

	field reflect.Value
}

// envOf is the name of a setting's environment variable: the tag env, without
// the prefix, where the name alone would not say whose it is.
func envOf(tag reflect.StructTag) string {
	if env := tag.Get("env"); env != "" {
		return EnvPrefix + env
	}
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(tag.Get("name"), "-", "_"))
}

// Text is the value of the field now.
func (s *Setting) Text() string { return textOf(s.field) }

// Any is the value of the field now, as YAML has it: a number, a truth value,
// a list, or the text of anything else.
func (s *Setting) Any() any {
	switch v := s.field.Interface().(type) {
	case bool, int, int32, int64, uint32, []string:
		return v
	}
	return s.Text()
}

// Set parses text into the field.
func (s *Setting) Set(text string) error { return parseInto(s.field, text) }

// Walk returns the settings of a configuration, a pointer to a struct, in the
// order of its fields. A field without documentation is an error.
func Walk(cfg any) ([]Setting, error) {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("settings: %T is not a pointer to a struct", cfg)
	}
	var all []Setting
	if err := walk(v.Elem(), &all); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, s := range all {
		if seen[s.Name] {
			return nil, fmt.Errorf("settings: %s is there twice", s.Name)
		}
		seen[s.Name] = true
	}
	return all, nil
}

func walk(v reflect.Value, all *[]Setting) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			if err := walk(v.Field(i), all); err != nil {
				return err
			}
			continue
		}
		s := Setting{
			Name: f.Tag.Get("name"), Doc: f.Tag.Get("doc"), Change: f.Tag.Get("change"),
			Env: envOf(f.Tag), Default: textOf(v.Field(i)), Kind: kindOf(v.Field(i)), field: v.Field(i),
		}
		switch {
		case !f.IsExported() || s.Name == "" || s.Doc == "" || s.Change == "":
			return fmt.Errorf("settings: field %s.%s needs the tags name, doc and change", v.Type(), f.Name)
		case s.Kind == "":
			return fmt.Errorf("settings: field %s.%s has a type that cannot be set: %s", v.Type(), f.Name, f.Type)
		case !validName(s.Name):
			return fmt.Errorf("settings: %q is no name for a setting: a-z, 0-9 and '-' only", s.Name)
		}
		*all = append(*all, s)
	}
	return nil
}

func validName(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && name[0] != '-'
}

// kinder is a type that says what kind of value it holds.
type kinder interface{ Kind() string }

func kindOf(v reflect.Value) string {
	if k, ok := v.Interface().(kinder); ok {
		return k.Kind()
	}
	switch v.Interface().(type) {
	case string:
		return "text"
	case bool:
		return "yes/no"
	case time.Duration:
		return "duration"
	case int, int32, int64, uint32:
		return "number"
	case []string:
		return "list"
	}
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return "text"
	}
	return ""
}

func textOf(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case []string:
		return strings.Join(x, ",")
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return ""
		}
		return string(b)
	}
	return fmt.Sprint(v.Interface())
}

func parseInto(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Interface().(type) {
	case string:
		v.SetString(text)
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("must be true or false")
		}
		v.SetBool(b)
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("must be a duration like 30s or 5m")
		}
		v.SetInt(int64(d))
	case int, int32, int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return errors.New("must be a whole number")
		}
		v.SetInt(n)
	case uint32:
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return errors.New("must be a whole number, not negative")
		}
		v.SetUint(n)
	case []string:
		v.Set(reflect.ValueOf(splitList(text)))
	default:
		return fmt.Errorf("cannot be set: %s", v.Type())
	}
	return nil
}

// splitList parts a list at commas; blanks around items and empty items go.
func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
