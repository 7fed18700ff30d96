package reflection

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Describe returns a service, method, message, field or enum in the syntax of
// .proto files.
func Describe(d protoreflect.Descriptor) string {
	var b strings.Builder
	switch d := d.(type) {
	case protoreflect.ServiceDescriptor:
		fmt.Fprintf(&b, "service %s {\n", d.FullName())
		for i := range d.Methods().Len() {
			b.WriteString("  " + method(d.Methods().Get(i)) + "\n")
		}
		b.WriteString("}\n")
	case protoreflect.MethodDescriptor:
		b.WriteString(method(d) + "\n")
	case protoreflect.MessageDescriptor:
		message(&b, d, "", string(d.FullName()))
	case protoreflect.EnumDescriptor:
		enum(&b, d, "", string(d.FullName()))
	case protoreflect.FieldDescriptor:
		b.WriteString(field(d) + "\n")
	default:
		fmt.Fprintf(&b, "%s\n", d.FullName())
	}
	return b.String()
}

func method(m protoreflect.MethodDescriptor) string {
	stream := func(yes bool) string {
		if yes {
			return "stream "
		}
		return ""
	}
	return fmt.Sprintf("rpc %s(%s%s) returns (%s%s);", m.Name(),
		stream(m.IsStreamingClient()), m.Input().FullName(), stream(m.IsStreamingServer()), m.Output().FullName())
}

func message(b *strings.Builder, d protoreflect.MessageDescriptor, indent, name string) {
	fmt.Fprintf(b, "%smessage %s {\n", indent, name)
	in := indent + "  "
	for i := range d.Enums().Len() {
		enum(b, d.Enums().Get(i), in, string(d.Enums().Get(i).Name()))
	}
	for i := range d.Messages().Len() {
		if m := d.Messages().Get(i); !m.IsMapEntry() {
			message(b, m, in, string(m.Name()))
		}
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		one := f.ContainingOneof()
		if one == nil || one.IsSynthetic() {
			b.WriteString(in + field(f) + "\n")
			continue
		}
		if one.Fields().Get(0) != f {
			continue // written with the first of its oneof
		}
		fmt.Fprintf(b, "%soneof %s {\n", in, one.Name())
		for j := range one.Fields().Len() {
			b.WriteString(in + "  " + field(one.Fields().Get(j)) + "\n")
		}
		b.WriteString(in + "}\n")
	}
	b.WriteString(indent + "}\n")
}

func enum(b *strings.Builder, d protoreflect.EnumDescriptor, indent, name string) {
	fmt.Fprintf(b, "%senum %s {\n", indent, name)
	for i := range d.Values().Len() {
		v := d.Values().Get(i)
		fmt.Fprintf(b, "%s  %s = %d;\n", indent, v.Name(), v.Number())
	}
	b.WriteString(indent + "}\n")
}

func field(f protoreflect.FieldDescriptor) string {
	label := ""
	switch {
	case f.IsMap():
		return fmt.Sprintf("map<%s, %s> %s = %d;", typeName(f.MapKey()), typeName(f.MapValue()), f.Name(), f.Number())
	case f.IsList():
		label = "repeated "
	case f.HasOptionalKeyword():
		label = "optional "
	}
	return fmt.Sprintf("%s%s %s = %d;", label, typeName(f), f.Name(), f.Number())
}

func typeName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return string(f.Message().FullName())
	case f.Enum() != nil:
		return string(f.Enum().FullName())
	default:
		return f.Kind().String()
	}
}
