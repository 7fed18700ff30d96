package rpc

import (
	"reflect"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// How much a message may grow when it is decoded. An element of two bytes on the
// wire becomes a struct of a hundred and more, so that without a bound a message
// of 4 MiB takes hundreds.
//
// WHY 8: a google.protobuf.Value that is a number has 11 bytes on the wire and
// takes 90, so that a request of nothing else passes. What has smaller parts is
// refused above 350,000 of them: JSON of so many empty texts, true and false
// (docs/adr/0030).
const (
	expansion = 8
	// A message below this is decoded without being looked at.
	expansionFrom = 64 << 10

	pointerBytes = 8
	stringBytes  = 16
	sliceBytes   = 24
	mapBytes     = 96 // an entry's share of a map, beside its key and value
	numberBytes  = 8
	oneofBytes   = 16
	// What gRPC and protobuf nest at most.
	expansionDepth = protowire.DefaultRecursionLimit
)

// shape says what the parts of a kind of message take when they are decoded.
type shape struct {
	bytes  int // of the message itself
	fields map[protowire.Number]fieldShape
}

// fieldShape says what one occurrence of a field takes.
type fieldShape struct {
	bytes   int
	message *shape // nil: no message
	varints bool   // packed: each byte may be an element
	kept    bool   // its bytes are copied
}

// shapes are those of the requests of a service. They do not change.
type shapes map[protoreflect.FullName]*shape

// shapesOf returns the shapes of the requests of a service, none if it is not
// known.
func shapesOf(service string) shapes {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	s, ok := d.(protoreflect.ServiceDescriptor)
	if err != nil || !ok {
		return nil
	}
	all := shapes{}
	for i := range s.Methods().Len() {
		all.of(s.Methods().Get(i).Input())
	}
	return all
}

// of returns the shape of a kind of message, made if it is new.
func (all shapes) of(d protoreflect.MessageDescriptor) *shape {
	if s := all[d.FullName()]; s != nil {
		return s
	}
	s := &shape{bytes: mapBytes, fields: map[protowire.Number]fieldShape{}}
	all[d.FullName()] = s // before its fields: it may hold messages of its kind
	if t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName()); err == nil && !d.IsMapEntry() {
		s.bytes = int(reflect.TypeOf(t.Zero().Interface()).Elem().Size())
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		s.fields[f.Number()] = all.field(f)
	}
	return s
}

func (all shapes) field(f protoreflect.FieldDescriptor) fieldShape {
	var s fieldShape
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		s.bytes, s.message = pointerBytes, all.of(f.Message())
	case protoreflect.StringKind:
		s.kept = true
		if f.IsList() {
			s.bytes = stringBytes
		}
	case protoreflect.BytesKind:
		s.kept = true
		if f.IsList() {
			s.bytes = sliceBytes
		}
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind,
		protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		s.kept = true // packed: as long as on the wire
		if f.IsList() {
			s.bytes = numberBytes
		}
	default:
		s.varints = true
		if f.IsList() {
			s.bytes = numberBytes
		}
	}
	if f.ContainingOneof() != nil {
		s.bytes += oneofBytes
	}
	return s
}

// decodedBytes returns about what a message takes when it is decoded; more than
// limit if it is more. What does not decode is counted as far as it goes.
func (s *shape) decodedBytes(msg []byte, limit int) int { return s.count(msg, 0, limit, 0) }

func (s *shape) count(msg []byte, total, limit, depth int) int {
	total += s.bytes
	for len(msg) > 0 && total <= limit {
		number, wire, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return total
		}
		m := protowire.ConsumeFieldValue(number, wire, msg[n:])
		if m < 0 {
			return total
		}
		value := msg[n : n+m]
		msg = msg[n+m:]
		f, known := s.fields[number]
		if !known {
			total += n + m // kept as it is
			continue
		}
		total += f.bytes
		if wire != protowire.BytesType {
			continue
		}
		value, _ = protowire.ConsumeBytes(value)
		switch {
		case f.message != nil && depth < expansionDepth:
			total = f.message.count(value, total, limit, depth+1)
		case f.varints:
			total += numberBytes * len(value)
		case f.kept:
			total += len(value)
		}
	}
	return total
}
