package store

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Kind says what a key holds.
type Kind uint8

// The kinds of keys, in no order that matters.
const (
	// KindElection is the election: who is active. Not a message but text.
	KindElection Kind = iota + 1
	// KindCluster is a ClusterRecord.
	KindCluster
	// KindBroker is a BrokerRecord. A broker_epoch of 0 in it stands for the
	// revision of the entry.
	KindBroker
	// KindServed is the BrokerRecord of the last incarnation of a broker that
	// was unfenced on a directory: who may have acknowledged.
	KindServed
	// KindTopic is a TopicRecord: the topic exists.
	KindTopic
	// KindName is a TopicRecord with its identity alone: the name is taken.
	KindName
	// KindIntent is the TopicRecord of a topic whose partitions are being
	// created.
	KindIntent
	// KindPartition is a PartitionRecord.
	KindPartition
	// KindDeletion is a DeletionRecord.
	KindDeletion
	// KindRequest is the answer that a request with an id got.
	KindRequest
)

// Prefix is the beginning of every key.
const Prefix = "/millstream/"

var words = [...]string{
	KindElection: "election", KindCluster: "cluster", KindBroker: "brokers", KindServed: "served",
	KindTopic: "topics", KindName: "names", KindIntent: "intents", KindPartition: "partitions",
	KindDeletion: "deletions", KindRequest: "requests",
}

// TopicID is the identity of a topic.
type TopicID [16]byte

// String returns it in hexadecimal.
func (id TopicID) String() string { return hex.EncodeToString(id[:]) }

// DirectoryID is the identity of a log directory.
type DirectoryID [16]byte

// String returns it in hexadecimal.
func (id DirectoryID) String() string { return hex.EncodeToString(id[:]) }

// RequestID is the digest of a request that carries an id.
type RequestID [16]byte

// String returns it in hexadecimal.
func (id RequestID) String() string { return hex.EncodeToString(id[:]) }

// Key is a key, parsed. Only the fields of its kind are set. Keys can be
// compared.
type Key struct {
	Kind      Kind
	Broker    int32
	Directory DirectoryID
	Topic     TopicID
	Partition uint32
	Request   RequestID
	Name      string
}

// The keys that have no fields.
var (
	ElectionKey = Key{Kind: KindElection}
	ClusterKey  = Key{Kind: KindCluster}
)

// BrokerKey is where a broker is.
func BrokerKey(id int32) Key { return Key{Kind: KindBroker, Broker: id} }

// ServedKey is where the last unfenced incarnation of a broker on a directory is.
func ServedKey(id int32, dir DirectoryID) Key {
	return Key{Kind: KindServed, Broker: id, Directory: dir}
}

// TopicKey is where a topic is.
func TopicKey(id TopicID) Key { return Key{Kind: KindTopic, Topic: id} }

// NameKey is where a name is taken.
func NameKey(name string) Key { return Key{Kind: KindName, Name: name} }

// IntentKey is where a topic is while it is being created.
func IntentKey(id TopicID) Key { return Key{Kind: KindIntent, Topic: id} }

// PartitionKey is where a partition is.
func PartitionKey(id TopicID, partition uint32) Key {
	return Key{Kind: KindPartition, Topic: id, Partition: partition}
}

// DeletionKey is where a deletion is.
func DeletionKey(id TopicID) Key { return Key{Kind: KindDeletion, Topic: id} }

// RequestKey is where the answer to a request is.
func RequestKey(id RequestID) Key { return Key{Kind: KindRequest, Request: id} }

// String returns the key as it is in the store. Numbers have a fixed width,
// so that keys sort as they do.
func (k Key) String() string {
	s := Prefix + words[k.Kind]
	switch k.Kind {
	case KindElection, KindCluster:
		return s
	case KindBroker:
		return fmt.Sprintf("%s/%010d", s, k.Broker)
	case KindServed:
		return fmt.Sprintf("%s/%010d/%s", s, k.Broker, k.Directory)
	case KindTopic, KindIntent, KindDeletion:
		return s + "/" + k.Topic.String()
	case KindPartition:
		return fmt.Sprintf("%s/%s/%05d", s, k.Topic, k.Partition)
	case KindName:
		return s + "/" + k.Name
	case KindRequest:
		return s + "/" + k.Request.String()
	}
	return s
}

// PartitionsPrefix is what the keys of the partitions of a topic begin with.
func PartitionsPrefix(id TopicID) string {
	return Prefix + words[KindPartition] + "/" + id.String() + "/"
}

// KeyError says that a key is none of ours.
type KeyError struct{ Key string }

// Error says it for people.
func (e *KeyError) Error() string { return fmt.Sprintf("unknown key %q in the metadata store", e.Key) }

// ParseKey is the inverse of Key.String. It fails with *KeyError.
func ParseKey(s string) (Key, error) {
	k, ok := parseKey(s)
	if !ok || k.String() != s {
		return Key{}, &KeyError{Key: s}
	}
	return k, nil
}

func parseKey(s string) (Key, bool) {
	s, ok := strings.CutPrefix(s, Prefix)
	if !ok {
		return Key{}, false
	}
	word, rest, _ := strings.Cut(s, "/")
	for kind, w := range words {
		if w == word && w != "" {
			return parseFields(Key{Kind: Kind(kind)}, rest)
		}
	}
	return Key{}, false
}

func parseFields(k Key, rest string) (Key, bool) {
	switch k.Kind {
	case KindElection, KindCluster:
		return k, rest == ""
	case KindBroker:
		return k, parseBroker(&k.Broker, rest)
	case KindServed:
		broker, dir, _ := strings.Cut(rest, "/")
		return k, parseBroker(&k.Broker, broker) && parseID(k.Directory[:], dir)
	case KindTopic, KindIntent, KindDeletion:
		return k, parseID(k.Topic[:], rest)
	case KindPartition:
		id, number, _ := strings.Cut(rest, "/")
		n, err := strconv.ParseUint(number, 10, 32)
		k.Partition = uint32(n)
		return k, err == nil && parseID(k.Topic[:], id)
	case KindName:
		k.Name = rest
		return k, rest != ""
	case KindRequest:
		return k, parseID(k.Request[:], rest)
	}
	return k, false
}

func parseBroker(id *int32, s string) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	*id = int32(n)
	return err == nil && n >= 0
}

func parseID(id []byte, s string) bool {
	if len(s) != hex.EncodedLen(len(id)) {
		return false
	}
	_, err := hex.Decode(id, []byte(s))
	return err == nil
}
