package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// jsonForm is how messages are written and read: fields that are zero are
// shown, so that offset 0 is seen; unknown fields are refused, so that a typo
// is; and the same message is always the same bytes.
type jsonForm struct{ runtime.JSONPb }

func newJSON() *jsonForm {
	return &jsonForm{runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{EmitDefaultValues: true}}}
}

// Marshal encodes a message, or a line of a stream.
func (j *jsonForm) Marshal(v any) ([]byte, error) {
	if line, ok := v.(map[string]proto.Message); ok {
		if st, ok := line["error"].(*spb.Status); ok {
			return json.Marshal(map[string]problem{"error": newProblem(status.FromProto(st))})
		}
	}
	b, err := j.JSONPb.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer // protojson varies its blanks on purpose
	out.Grow(len(b))
	if err := json.Compact(&out, b); err != nil {
		return nil, err
	}
	if _, whole := v.(proto.Message); whole {
		out.WriteByte('\n') // an answer of its own ends its line, as those of a stream do
	}
	return out.Bytes(), nil
}

// NewEncoder writes values one after the other.
func (j *jsonForm) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		b, err := j.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(append(bytes.TrimSuffix(b, []byte{'\n'}), '\n'))
		return err
	})
}

// StreamContentType is that of an answer of one object a line.
func (j *jsonForm) StreamContentType(any) string { return "application/x-ndjson" }

// strictQuery refuses query parameters that no field has: otherwise a typo of
// `offset` would read from the start.
type strictQuery struct{ runtime.DefaultQueryParser }

// Parse fills msg from the query.
func (q strictQuery) Parse(msg proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	for key := range values {
		if fieldOf(msg.ProtoReflect().Descriptor(), key) == nil {
			return fmt.Errorf("no query parameter is called %q", clip(key))
		}
	}
	return q.DefaultQueryParser.Parse(msg, values, filter)
}

// fieldOf returns the field that a dotted path names, by either of its names;
// nil: none is.
func fieldOf(d protoreflect.MessageDescriptor, path string) protoreflect.FieldDescriptor {
	name, rest, nested := strings.Cut(path, ".")
	name, _, _ = strings.Cut(name, "[") // an entry of a map: config[retention.ms]
	f := d.Fields().ByJSONName(name)
	if f == nil {
		f = d.Fields().ByName(protoreflect.Name(name))
	}
	switch {
	case f == nil || f.IsMap() || !nested:
		return f
	case f.Message() == nil:
		return nil
	}
	return fieldOf(f.Message(), rest)
}
