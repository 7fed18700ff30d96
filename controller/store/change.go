package store

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// Change is an entry, or the change of one, with its key and value decoded.
type Change struct {
	Key      Key
	Revision int64
	// Value is nil when the key was deleted. It is read only.
	Value proto.Message
	// Active is the value of the election key.
	Active Active
}

// Deleted reports whether the key is gone.
func (c Change) Deleted() bool { return c.Value == nil && c.Key.Kind != KindElection }

// ValueError says that a value in the store does not decode.
type ValueError struct {
	Key   string
	Cause error
}

// Error says it for people.
func (e *ValueError) Error() string {
	return fmt.Sprintf("value of %q in the metadata store: %v", e.Key, e.Cause)
}

// Unwrap returns the cause.
func (e *ValueError) Unwrap() error { return e.Cause }

// Decode decodes an event. It fails with *KeyError or *ValueError.
func Decode(e Event) (Change, error) {
	k, err := ParseKey(e.Key)
	if err != nil {
		return Change{}, err
	}
	c := Change{Key: k, Revision: e.Revision}
	switch {
	case e.Deleted:
		c.Active.ControllerID = -1
		return c, nil
	case k.Kind == KindElection:
		c.Active, err = parseActive(e.Value)
		c.Active.Revision = e.Revision
	case k.Kind == KindRequest:
		c.Value, err = decodeAnswer(e.Value)
	default:
		c.Value = newValue(k.Kind)
		err = proto.Unmarshal(e.Value, c.Value)
	}
	if err != nil {
		return Change{}, &ValueError{Key: e.Key, Cause: err}
	}
	fillIn(c)
	return c, nil
}

// fillIn sets what a message says of its own revision, which who wrote it did
// not know.
func fillIn(c Change) {
	switch m := c.Value.(type) {
	case *controllerv1.BrokerRecord:
		if c.Key.Kind == KindBroker && m.GetBrokerEpoch() == 0 {
			m.BrokerEpoch = c.Revision
		}
	case *controllerv1.DeletionRecord:
		m.Revision = c.Revision
	case *controllerv1.CreateTopicResponse:
		m.Revision = c.Revision
	case *controllerv1.UpdateTopicConfigResponse:
		m.Revision = c.Revision
	case *controllerv1.DeleteTopicResponse:
		m.Revision = c.Revision
	}
}

func newValue(k Kind) proto.Message {
	switch k {
	case KindCluster:
		return new(controllerv1.ClusterRecord)
	case KindBroker, KindServed:
		return new(controllerv1.BrokerRecord)
	case KindPartition:
		return new(controllerv1.PartitionRecord)
	case KindDeletion:
		return new(controllerv1.DeletionRecord)
	default: // topics, names and intents
		return new(controllerv1.TopicRecord)
	}
}
