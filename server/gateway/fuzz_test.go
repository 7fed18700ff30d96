package gateway

import (
	"bytes"
	"encoding/json"
	"testing"
)

// depthOf is how deep JSON that is valid nests.
func depthOf(t *testing.T, b []byte) (most int) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // a float could be too large
	for at := 0; ; {
		token, err := d.Token()
		if err != nil {
			return most
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			at++
			most = max(most, at)
		case json.Delim('}'), json.Delim(']'):
			at--
		}
	}
}

// A body that is valid passes exactly if it nests no deeper than it may.
func FuzzBody(f *testing.F) {
	const limit = 5
	f.Add([]byte(`{"records":[{"text":"[[[[[[[["},{"json":{"a":[1,2,"\"]"]}}]}`))
	f.Add([]byte(`[[[[[]]]]]`))
	f.Add([]byte(`[[[[[[]]]]]]`))
	f.Add([]byte(`{} {}`))
	f.Add([]byte(`"\`))
	f.Fuzz(func(t *testing.T, b []byte) {
		deep, single := checkDepth(b, limit), checkSingle(b)
		if !json.Valid(b) {
			return
		}
		if depth := depthOf(t, b); (deep != nil) != (depth > limit) || single != nil {
			t.Errorf("%d levels: %v; alone: %v", depth, deep, single)
		}
		_ = bodyFault(b, map[string]string{"topic": "t", "partition": "1"})
	})
}
