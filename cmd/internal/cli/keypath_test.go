package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestKeyPathFindsTheKey(t *testing.T) {
	for _, c := range []struct {
		path, text string
		want       string // "-": no key; "!": an error
	}{
		{"a", `{"a":"x"}`, "x"},
		{"a", `{"b":{"a":"no"},"a":"x"}`, "x"},
		{"a", `{"b":[{"a":1},"}"],"a" : "x" }`, "x"},
		{"a.b", `{"a":{"b":"x"}}`, "x"},
		{"a.b", `{"a":{"c":1},"b":"no"}`, "-"},
		{"a.b", `{"a":"b"}`, "-"},
		{"a", `{"a":1.50}`, "1.50"},
		{"a", `{"a":-1e3,"b":2}`, "-1e3"},
		{"a", `{"a":true}`, "true"},
		{"a", `{"a":false }`, "false"},
		{"a", `{"a":null}`, "-"},
		{"a", `{"a":""}`, ""},
		{"a", `{}`, "-"},
		{"a", `{"b":1}`, "-"},
		{"a", `["a"]`, "-"},
		{"a", `"a"`, "-"},
		{"a", `3`, "-"},
		{"a", `{"a":{}}`, "!"},
		{"a", `{"a":[1]}`, "!"},
		{"a", `{"a":"\u00e9\"\n"}`, "é\"\n"},
		{"é", `{"\u00e9":"x"}`, "x"},
		{"a", `{"a":"é"}`, "é"},
		{"a", `{"a":1,"a":"last"}`, "last"},
		{"a", ` { "x" : "\\" , "a" : "y" } `, "y"},
		{"a.b.c", `{"a":{"b":{"c":9}}}`, "9"},
	} {
		if !json.Valid([]byte(c.text)) {
			t.Fatalf("%s is not JSON", c.text)
		}
		path, err := parseKeyPath(c.path)
		if err != nil {
			t.Fatal(err)
		}
		key, err := path.find([]byte(c.text))
		got := string(key)
		switch {
		case err != nil:
			got = "!"
		case key == nil:
			got = "-"
		}
		if got != c.want {
			t.Errorf("%s in %s: got %q, want %q", c.path, c.text, got, c.want)
		}
	}
}

func TestKeyPathsThatAreNone(t *testing.T) {
	for _, s := range []string{"", ".", "a.", ".a", "a..b"} {
		if _, err := parseKeyPath(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// The scanner agrees with encoding/json on whatever is JSON.
func FuzzKeyPath(f *testing.F) {
	for _, s := range []string{`{"a":{"b":"x"}}`, `{"a":[1,{"b":2}],"a":{"b":null}}`, `{"a":{"b":"\ud800"}}`, `[]`, ` {"a" : {"b" : -0.0 } } `} {
		f.Add([]byte(s))
	}
	path := keyPath{"a", "b"}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) || !utf8.Valid(text) { // encoding/json replaces what is not UTF-8
			return
		}
		got, err := path.find(text)
		want, bad := slowKey(text, path)
		if bad != (err != nil) || !bad && fmt.Sprintf("%q %v", got, got == nil) != want {
			t.Errorf("%q: got %q %v, want %s %v", text, got, err, want, bad)
		}
	})
}

// slowKey finds the key the slow way.
func slowKey(text []byte, path keyPath) (want string, bad bool) {
	const none = `"" true`
	for _, name := range path {
		var m map[string]json.RawMessage
		if json.Unmarshal(text, &m) != nil || m[name] == nil {
			return none, false
		}
		text = m[name]
	}
	switch s := strings.TrimSpace(string(text)); s[0] {
	case '{', '[':
		return "", true
	case 'n':
		return none, false
	case '"':
		var v string
		if err := json.Unmarshal(text, &v); err != nil {
			return "", true
		}
		return fmt.Sprintf("%q false", v), false
	default:
		return fmt.Sprintf("%q false", s), false
	}
}
