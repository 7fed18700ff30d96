package history

// Metadata is what somebody was told of topics and partitions.
type Metadata struct {
	// Generation of the cluster; 0: not known.
	Generation uint32 `json:"generation,omitempty"`
	// Revision up to which it has every change: what a broker was told, or what the
	// answer to a client is made of.
	Revision int64 `json:"revision,omitempty"`
	// Least is the least revision that a client has asked for (TopicRead).
	Least int64 `json:"least,omitempty"`
	// More says that another event goes on with the same revision.
	More bool `json:"more,omitempty"`
	// Topics are those that are new or another (MetadataTold), or the one that was
	// asked for (TopicRead); Gone the names of those that are no longer there.
	Topics []TopicState `json:"topics,omitempty"`
	Gone   []string     `json:"gone,omitempty"`
}

// TopicState is a topic at some revision.
type TopicState struct {
	Topic string `json:"topic"`
	// ID is its identity; another topic under its name has another.
	ID string `json:"id"`
	// Revision is that of the last change of its settings, or of its size; 0: these
	// are not told.
	Revision int64 `json:"revision,omitempty"`
	// Settings are those that were set.
	Settings map[string]string `json:"settings,omitempty"`
	// Partitions are those that are told.
	Partitions []PartitionState `json:"partitions,omitempty"`
}

// PartitionState is the record of a partition at some revision.
type PartitionState struct {
	Partition uint32 `json:"partition"`
	// Revision is that of its last change; 0: not known.
	Revision int64 `json:"revision,omitempty"`
	// Epoch is the partition epoch.
	Epoch int32 `json:"epoch"`
	// Leader leads in LeaderEpoch; -1: nobody does.
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	ISR         []int32 `json:"isr,omitempty"`
	Replicas    []int32 `json:"replicas,omitempty"`
}

// Settings is a change of settings of a topic, all of it or nothing. It is
// carried out at most once, however often its client asks for it: that gives it
// a request id.
type Settings struct {
	// Set has the settings that are to have these values (SettingsInvoke).
	Set map[string]string `json:"set,omitempty"`
	// Expected is the revision that the change is meant for, if it is meant for one.
	Expected *int64 `json:"expected,omitempty"`
	// Revision of the topic with the change in it, and Now all that is set for it
	// then (SettingsOK).
	Revision int64             `json:"revision,omitempty"`
	Now      map[string]string `json:"now,omitempty"`
}
