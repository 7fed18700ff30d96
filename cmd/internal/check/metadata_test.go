package check

import (
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// toldOf has a broker told of a version of the partition, or of settings.
func (s *tale) toldOf(broker int, generation uint32, revision int64, of ...history.TopicState) {
	s.say(broker, history.Event{Kind: history.MetadataTold, Metadata: &history.Metadata{Generation: generation, Revision: revision, Topics: of}})
}

func (s *tale) asks(least, revision int64, of history.TopicState) {
	s.say(client, history.Event{Kind: history.TopicRead, Metadata: &history.Metadata{Revision: revision, Least: least, Topics: []history.TopicState{of}}})
}

// set is the topic with a setting.
func set(revision int64, value string) history.TopicState {
	return history.TopicState{Topic: "t", ID: "7", Revision: revision, Settings: map[string]string{"a": value}}
}

// ledBy is the topic with its partition in a version, led in an epoch of the
// same number.
func ledBy(leader int32, revision int64, epoch int32) history.TopicState {
	return history.TopicState{Topic: "t", ID: "7", Partitions: []history.PartitionState{
		{Revision: revision, Epoch: epoch, Leader: leader, LeaderEpoch: epoch, ISR: []int32{1, 2}, Replicas: []int32{1, 2}},
	}}
}

// sets asks for a setting, and is answered.
func (s *tale) sets(op uint64, value string, expected *int64, revision int64) {
	s.say(client, history.Event{Kind: history.SettingsInvoke, Op: op, Settings: &history.Settings{Set: map[string]string{"a": value}, Expected: expected}})
	s.say(client, history.Event{Kind: history.SettingsOK, Op: op, Settings: &history.Settings{Revision: revision, Now: map[string]string{"a": value}}})
}

// What is told of the metadata goes by one order, whoever is told.
func TestMetadataGoesByOneOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		tell func(s *tale)
		odd  bool
	}{
		{"brokers are told the same, one of them later and of less", func(s *tale) {
			s.toldOf(1, 1, 3, set(2, "x"), ledBy(1, 3, 1))
			s.toldOf(1, 1, 5, ledBy(2, 5, 2))
			s.toldOf(1, 1, 8, ledBy(1, 7, 3), set(8, "y"))
			s.toldOf(2, 1, 3, set(2, "x"), ledBy(1, 3, 1))
			s.toldOf(2, 1, 9, ledBy(1, 7, 3), set(8, "y"))
		}, false},
		{"a broker is told of nothing new", func(s *tale) {
			s.toldOf(1, 1, 3, ledBy(1, 3, 1))
			s.toldOf(1, 1, 4)
			s.toldOf(2, 1, 3, ledBy(1, 3, 1))
			s.toldOf(2, 1, 5, ledBy(2, 5, 2))
			s.toldOf(1, 1, 5, ledBy(2, 5, 2))
		}, false},
		{"a broker is not told of what was there", func(s *tale) {
			s.toldOf(1, 1, 3, ledBy(1, 3, 1))
			s.toldOf(1, 1, 6)
			s.toldOf(2, 1, 3, ledBy(1, 3, 1))
			s.toldOf(2, 1, 5, ledBy(2, 5, 2))
			s.toldOf(1, 1, 7, ledBy(2, 5, 2))
		}, true},
		{"a broker is told all anew, and of an old version", func(s *tale) {
			s.toldOf(1, 1, 3, ledBy(1, 3, 1))
			s.toldOf(1, 1, 5, ledBy(2, 5, 2))
			s.toldOf(1, 1, 6, ledBy(1, 3, 1))
		}, true},
		{"a watch goes back", func(s *tale) {
			s.toldOf(1, 1, 5, ledBy(1, 3, 1))
			s.toldOf(1, 1, 4)
		}, true},
		{"a broker that begins anew may be told less", func(s *tale) {
			s.toldOf(1, 1, 5, ledBy(1, 3, 1))
			s.say(1, history.Event{Kind: history.BrokerStart})
			s.toldOf(1, 1, 4, ledBy(1, 3, 1))
		}, false},
		{"another generation begins anew", func(s *tale) {
			s.toldOf(1, 1, 9, set(2, "x"), ledBy(1, 8, 2))
			s.toldOf(1, 2, 4, set(2, "z"), ledBy(2, 3, 2))
			s.asks(0, 4, set(2, "z"))
		}, false},
		{"one is there while the other is another topic of its name", func(s *tale) {
			s.toldOf(1, 1, 3, ledBy(1, 3, 1))
			other := ledBy(1, 9, 1)
			other.ID, other.Partitions[0].ISR = "8", []int32{1}
			s.toldOf(1, 1, 9, other)
			s.say(1, history.Event{Kind: history.LeaderBegin, Replica: &history.Replica{Epoch: 1, PartitionEpoch: 1, ISR: []int32{1}, MinISR: 1, Medium: history.MediumDisk}})
		}, false},
		{"a topic that is gone is not held any more", func(s *tale) {
			s.toldOf(1, 1, 3, set(2, "x"), ledBy(1, 3, 1))
			s.say(1, history.Event{Kind: history.MetadataTold, Metadata: &history.Metadata{Generation: 1, Revision: 6, Gone: []string{"t"}}})
			s.toldOf(2, 1, 4, set(2, "x"), ledBy(1, 3, 1))
			s.toldOf(2, 1, 5, ledBy(2, 5, 2))
		}, false},
		{"a leader goes by the answer to its proposal", func(s *tale) {
			s.toldOf(1, 1, 3, ledBy(1, 3, 1))
			s.say(1, history.Event{Kind: history.ISR, Replica: &history.Replica{Epoch: 1, PartitionEpoch: 2, ISR: []int32{1}, MinISR: 1, Medium: history.MediumDisk}})
			next := ledBy(1, 4, 2)
			next.Partitions[0].LeaderEpoch, next.Partitions[0].ISR = 1, []int32{1}
			s.toldOf(2, 1, 4, next)
		}, false},
		{"a leader goes by what nobody else is told", func(s *tale) {
			s.toldOf(1, 1, 3, ledBy(1, 3, 1))
			s.say(1, history.Event{Kind: history.ISR, Replica: &history.Replica{Epoch: 1, PartitionEpoch: 2, ISR: []int32{1}, MinISR: 1, Medium: history.MediumDisk}})
			s.toldOf(2, 1, 4, ledBy(1, 4, 2))
		}, true},
		{"a client that asks for no revision may be told what is old", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.sets(1, "y", nil, 5)
			s.asks(0, 4, set(2, "x"))
			s.asks(5, 5, set(5, "y"))
		}, false},
		{"a client that asks for the revision of its change is told of it", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.sets(1, "y", nil, 5)
			s.asks(5, 5, set(2, "x"))
		}, true},
		{"a client is told less than it asked for", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.asks(3, 2, set(2, "x"))
		}, true},
		{"a change whose outcome is unknown may be there, or not", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			for op, value := range map[uint64]string{1: "y", 2: "z"} {
				s.say(client, history.Event{Kind: history.SettingsInvoke, Op: op, Settings: &history.Settings{Set: map[string]string{"a": value}}})
			}
			s.say(client, history.Event{Kind: history.SettingsUnknown, Op: 1})
			s.asks(0, 4, set(3, "y"))
		}, false},
		{"a change is carried out twice", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.sets(1, "y", nil, 3)
			s.sets(2, "z", nil, 4)
			s.toldOf(1, 1, 5, set(5, "y"))
		}, true},
		{"a value may come again if it is asked for again", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.sets(1, "y", nil, 3)
			s.sets(2, "z", nil, 4)
			s.sets(3, "y", nil, 5)
		}, false},
		{"a change comes before one that was answered before it was asked for", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.sets(1, "y", nil, 5)
			s.sets(2, "z", nil, 4)
		}, true},
		{"a change that was meant for what is there", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.sets(1, "y", new(int64(2)), 3)
			s.sets(2, "z", new(int64(3)), 9)
		}, false},
		{"a change that was meant for what is there no longer", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.sets(1, "y", nil, 3)
			s.sets(2, "z", new(int64(2)), 4)
		}, true},
		{"settings for which nobody in the history asks change as they like", func(s *tale) {
			s.toldOf(1, 1, 2, set(2, "x"))
			s.toldOf(1, 1, 3, set(3, "y"))
			s.toldOf(1, 1, 4, set(4, "x"))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTale(t)
			if c.tell(s); c.odd {
				s.fails(R24)
			} else if s.passes().Result(R24).Checked == 0 {
				t.Error("nothing is judged")
			}
		})
	}
}
