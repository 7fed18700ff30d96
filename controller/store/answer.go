package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// Digest returns the identity of a request that carries an id: what must be
// equal for it to be the same request sent again. It is made of fields and
// not of encoded bytes, which need not be the same twice.
func Digest(kind, requestID, topic string, numbers []int64, config map[string]string, names []string) RequestID {
	h := sha256.New()
	text := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	count := func(n int64) { text(fmt.Sprint(n)) }
	text(kind)
	text(requestID)
	text(topic)
	count(int64(len(numbers)))
	for _, n := range numbers {
		count(n)
	}
	count(int64(len(config)))
	for _, k := range slices.Sorted(maps.Keys(config)) {
		text(k)
		text(config[k])
	}
	for _, s := range slices.Sorted(slices.Values(names)) {
		text(s)
	}
	return RequestID(h.Sum(nil))
}

// encodeAnswer makes an answer that says its own type.
func encodeAnswer(m proto.Message) ([]byte, error) {
	a, err := anypb.New(m)
	if err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	return proto.Marshal(a)
}

func decodeAnswer(b []byte) (proto.Message, error) {
	a := new(anypb.Any)
	if err := proto.Unmarshal(b, a); err != nil {
		return nil, err
	}
	for _, m := range []proto.Message{
		new(controllerv1.CreateTopicResponse), new(controllerv1.UpdateTopicConfigResponse), new(controllerv1.DeleteTopicResponse),
	} {
		if a.MessageIs(m) {
			return m, a.UnmarshalTo(m)
		}
	}
	return nil, fmt.Errorf("an answer of type %q", a.GetTypeUrl())
}
