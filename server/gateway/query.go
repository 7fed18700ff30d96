package gateway

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// badQuery names the parameter of the query that a call could not be made with;
// nil: the query is good, or no call was to be made.
//
// WHY after the fact: who makes the message of the query says in words alone what
// is wrong with it, and before that nobody knows the message.
func badQuery(ctx context.Context, r *http.Request) *status.Status {
	made := requestOf(ctx)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if made == nil || err != nil {
		return nil
	}
	// One after the other into one message: some exclude each other.
	msg := made.New().Interface()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if takes(msg, name, query[name]) {
			continue
		}
		field := fieldOf(made.Descriptor(), name)
		switch values := query[name]; {
		case field == nil:
			return malformedField(clip(name), "is no parameter of this call")
		case field.ContainingOneof() != nil && takes(made.New().Interface(), name, values):
			return malformedField(clip(name), "in the query is one form of "+string(field.ContainingOneof().Name())+", and another one is there")
		case len(values) > 1 && !field.IsList():
			return malformedField(clip(name), "is in the query "+strconv.Itoa(len(values))+" times")
		default:
			return malformedField(clip(name), strconv.Quote(clip(strings.Join(values, ", ")))+" in the query is "+notA(field))
		}
	}
	return nil
}

func takes(msg proto.Message, name string, values []string) bool {
	return strictQuery{}.Parse(msg, url.Values{name: values}, &utilities.DoubleArray{}) == nil
}

// requestOf returns the type of message that a call takes; nil: it is no call.
func requestOf(ctx context.Context) protoreflect.MessageType {
	method, ok := runtime.RPCMethod(ctx)
	if !ok {
		return nil
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")))
	if err != nil {
		return nil
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil
	}
	made, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	if err != nil {
		return nil
	}
	return made
}

// notA says what a field takes, of a value that it does not.
func notA(f protoreflect.FieldDescriptor) string {
	switch f.Kind() { //nolint:exhaustive // the rest is no parameter
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return "no whole number from -2147483648 to 2147483647"
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return "no whole number from -9223372036854775808 to 9223372036854775807"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return "no whole number from 0 to 4294967295"
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "no whole number from 0 to 18446744073709551615"
	case protoreflect.BoolKind:
		return "neither true nor false"
	case protoreflect.EnumKind:
		return "no value of " + string(f.Enum().Name())
	case protoreflect.BytesKind:
		return "no base64"
	case protoreflect.MessageKind:
		if f.Message().FullName() == "google.protobuf.Timestamp" {
			return "no time as 2026-01-02T15:04:05Z is one"
		}
	}
	return "not what it takes"
}
