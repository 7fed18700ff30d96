package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/store"
)

const (
	// revisionsPerGeneration is how many revisions a generation has to itself, so
	// that no revision, and no broker epoch, is given out in two of them: a
	// thousand a second for 49 days more than were counted when the backup was
	// made.
	revisionsPerGeneration = 1 << 32
	// LeaderEpochsPerGeneration is how many leader epochs a partition has to
	// itself in each: who leads since after the backup leads in a lower one.
	LeaderEpochsPerGeneration = 1 << 16
	// MaxGeneration is the greatest generation: the epochs of the next would not
	// fit in 31 bits.
	MaxGeneration = math.MaxInt32/LeaderEpochsPerGeneration - 1

	noLeader = -1
)

// GenerationError says that a cluster cannot be restored as that generation.
type GenerationError struct {
	// Asked is that generation; Backup the one of the backup.
	Asked, Backup uint32
}

// Error says it for people.
func (e *GenerationError) Error() string {
	return fmt.Sprintf("the backup is of generation %d, so the restored cluster may be of generation %d to %d, not %d",
		e.Backup, e.Backup+1, MaxGeneration, e.Asked)
}

// Restored is the metadata of a restored cluster.
type Restored struct {
	// Generation is the cluster's from now on.
	Generation uint32
	// Revision is that of all entries: above every one of the generations before.
	Revision int64
	// Entries are in the order of their keys.
	Entries []store.Entry
	// Identity is a digest of all of that: only controllers with the same one
	// may be members of the same quorum.
	Identity string
}

// Restore returns the metadata with which a cluster begins its next
// generation. What may have changed since the backup is made harmless: brokers
// are fenced until they register anew; nobody leads a partition before each
// broker has said whether it holds a log of it; leader epochs, revisions and
// broker epochs are above all that were given out. Topics that were being
// created are left out. It fails with *GenerationError, or *store.KeyError or
// *store.ValueError for a backup of a later version of the software.
func (b *Backup) Restore(generation uint32) (*Restored, error) {
	if generation <= b.Generation || generation > MaxGeneration {
		return nil, &GenerationError{Asked: generation, Backup: b.Generation}
	}
	ahead := int64(generation - b.Generation)
	r := &Restored{Generation: generation, Revision: b.Revision + ahead*revisionsPerGeneration}
	changes, topics, err := b.decode()
	if err != nil {
		return nil, err
	}
	for i, c := range changes {
		if !topics.keeps(c) {
			continue
		}
		value := b.Entries[i].Value
		m, err := r.rewrite(c, topics, ahead)
		if err != nil {
			return nil, err
		}
		if m != nil {
			if value, err = (proto.MarshalOptions{Deterministic: true}).Marshal(m); err != nil {
				return nil, fmt.Errorf("encode %s: %w", c.Key, err)
			}
		}
		r.Entries = append(r.Entries, store.Entry{Key: b.Entries[i].Key, Value: value, Revision: r.Revision})
	}
	r.Identity = r.digest()
	return r, nil
}

// known are the topics of a backup that were not only being created.
type known map[store.TopicID]*controllerv1.TopicRecord

func (b *Backup) decode() ([]store.Change, known, error) {
	changes := make([]store.Change, len(b.Entries))
	topics := known{}
	for i, e := range b.Entries {
		c, err := store.Decode(store.Event{Entry: e})
		if err != nil {
			return nil, nil, err
		}
		changes[i] = c
		if t, ok := c.Value.(*controllerv1.TopicRecord); ok && c.Key.Kind == store.KindTopic {
			topics[c.Key.Topic] = t
		}
	}
	return changes, topics, nil
}

// keeps reports whether an entry is part of the restored metadata. Nobody has
// seen a topic that was being created; if it was finished after the backup,
// its logs are those of a topic that the metadata does not know.
func (k known) keeps(c store.Change) bool {
	switch c.Key.Kind {
	case store.KindElection, store.KindIntent:
		return false
	case store.KindPartition:
		return k[c.Key.Topic] != nil
	case store.KindName:
		t, _ := c.Value.(*controllerv1.TopicRecord)
		id := t.GetTopicId()
		return len(id) == 16 && k[store.TopicID(id)] != nil
	default:
		return true
	}
}

// rewrite returns what an entry holds from now on; nil: what it held.
func (r *Restored) rewrite(c store.Change, topics known, ahead int64) (proto.Message, error) {
	switch m := c.Value.(type) {
	case *controllerv1.ClusterRecord:
		m.Generation = r.Generation
		return m, nil
	case *controllerv1.BrokerRecord:
		if c.Key.Kind != store.KindBroker {
			return nil, nil // who was unfenced on a directory was, at least
		}
		m.Fenced, m.Stopping, m.BrokerEpoch = true, false, r.Revision
		m.Impairment = controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED
		return m, nil
	case *controllerv1.TopicRecord:
		if c.Key.Kind != store.KindTopic {
			return nil, nil
		}
		m.FromBackup = true
		return m, nil
	case *controllerv1.PartitionRecord:
		epoch := int64(m.GetLeaderEpoch()) + ahead*LeaderEpochsPerGeneration
		if epoch > math.MaxInt32 {
			return nil, fmt.Errorf("%s: leader epoch %d is too large", c.Key, epoch)
		}
		m.Leader, m.LeaderEpoch, m.PartitionEpoch = noLeader, int32(epoch), m.GetPartitionEpoch()+1
		m.InSyncReplicas, m.EligibleLeaderReplicas, m.LastKnown = nil, nil, slices.Clone(m.GetReplicas())
		m.Successor = nil // nobody leads who could hand over
		m.FromBackup, m.AwaitedLogs = true, min(topics[c.Key.Topic].GetReplicationFactor(), uint32(len(m.GetReplicas())))
		return m, nil
	default:
		return nil, nil
	}
}

func (r *Restored) digest() string {
	h := sha256.New()
	text := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	text(fmt.Append(nil, r.Revision))
	for _, e := range r.Entries {
		text([]byte(e.Key))
		text(e.Value)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
