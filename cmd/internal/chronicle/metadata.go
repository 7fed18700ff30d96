package chronicle

import (
	"encoding/hex"

	"github.com/millstream-io/millstream/cmd/internal/history"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Ask notes a change of settings before it is asked for. op is unique among the
// changes of the run, and the request id of the change as well: it may be asked
// for again under it.
func (c *Chronicle) Ask(op uint64, r *pb.UpdateTopicConfigRequest) {
	c.write(c.client, &history.Event{
		Kind: history.SettingsInvoke, Topic: r.GetTopic(), Op: op, Settings: &history.Settings{Set: r.GetSet(), Expected: r.ExpectedRevision},
	})
}

// Done notes that it was carried out.
func (c *Chronicle) Done(op uint64, t *pb.Topic) {
	c.write(c.client, &history.Event{
		Kind: history.SettingsOK, Topic: t.GetTopic(), Op: op, Settings: &history.Settings{Revision: t.GetRevision(), Now: settingsOf(t)},
	})
}

// Undone notes that it certainly was not, or, if it is open, that nobody knows.
func (c *Chronicle) Undone(op uint64, topic string, open bool, why string) {
	kind := history.SettingsFail
	if open {
		kind = history.SettingsUnknown
	}
	c.write(c.client, &history.Event{Kind: kind, Topic: topic, Op: op, Reason: why})
}

// Described notes what a client was told of a topic that asked for metadata of
// at least a revision, and returns the revision that the answer is made of.
func (c *Chronicle) Described(least int64, r *pb.GetTopicResponse) int64 {
	t := r.GetTopic()
	state := history.TopicState{Topic: t.GetTopic(), ID: hex.EncodeToString(t.GetTopicId()), Revision: t.GetRevision(), Settings: settingsOf(t)}
	var revision int64 // each partition says it, for whoever looks for its leader
	for _, p := range r.GetPartitions() {
		l := p.GetLeader()
		revision = max(revision, l.GetRevision())
		state.Partitions = append(state.Partitions, history.PartitionState{
			Partition: p.GetPartition(), Epoch: p.GetPartitionEpoch(), Leader: l.GetBrokerId(), LeaderEpoch: l.GetLeaderEpoch(),
			ISR: p.GetInSyncReplicas(), Replicas: p.GetReplicas(),
		})
	}
	c.write(c.client, &history.Event{Kind: history.TopicRead, Topic: t.GetTopic(), Metadata: &history.Metadata{
		Revision: revision, Least: least, Topics: []history.TopicState{state},
	}})
	return revision
}

// settingsOf are those that were set for a topic.
func settingsOf(t *pb.Topic) map[string]string {
	set := make(map[string]string, len(t.GetConfigSet()))
	for _, name := range t.GetConfigSet() {
		set[name] = t.GetConfig()[name]
	}
	return set
}
