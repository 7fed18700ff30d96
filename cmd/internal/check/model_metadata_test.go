package check

import (
	"fmt"
	"maps"
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// modelID is the identity of the topic of the model.
const modelID = "00000000000000000000000000000007"

// modelState is the metadata of the model at a revision.
type modelState struct {
	revision int64
	settings map[string]string
	since    int64 // revision of settings
	record   history.PartitionState
}

// now is the newest state.
func (m *model) now() *modelState { return &m.states[len(m.states)-1] }

// change makes another state.
func (m *model) change(what func(s *modelState)) {
	next := modelState{revision: 1, settings: map[string]string{"segment.ms": "1"}, since: 1}
	if len(m.states) > 0 {
		next = *m.now()
		next.revision += 1 + int64(m.IntN(3)) // something else of no interest may have changed
	}
	what(&next)
	m.states = append(m.states, next)
}

// tell tells a broker what it was not told of: all at once, or in two pieces.
func (m *model) tell(b int) {
	s, told := m.now(), m.told[b]
	if told == s.revision {
		return
	}
	t := history.TopicState{Topic: "t", ID: modelID}
	if s.since > told {
		t.Revision, t.Settings = s.since, s.settings
	}
	md := history.Metadata{Generation: 1, Revision: s.revision}
	if s.record.Revision > told {
		if t.Revision > 0 && m.IntN(2) == 0 {
			first := md
			first.More, first.Topics = true, []history.TopicState{t}
			m.say(b, history.Event{Kind: history.MetadataTold, Metadata: &first})
			t.Revision, t.Settings = 0, nil
		}
		t.Partitions = []history.PartitionState{s.record}
	}
	if t.Revision > 0 || len(t.Partitions) > 0 {
		md.Topics = []history.TopicState{t}
	}
	m.told[b] = s.revision
	m.say(b, history.Event{Kind: history.MetadataTold, Metadata: &md})
}

// set has the client ask for another setting, through a broker.
func (m *model) set() {
	m.op++
	op, value := m.op, fmt.Sprint(m.op)
	ask := history.Settings{Set: map[string]string{"retention.bytes": value}}
	if m.IntN(2) == 0 {
		ask.Expected = new(m.now().since)
	}
	m.say(client, history.Event{Kind: history.SettingsInvoke, Op: op, Settings: &ask})
	outcome := m.IntN(8)
	if outcome == 0 {
		m.say(client, history.Event{Kind: history.SettingsFail, Op: op, Reason: "CONFLICT"})
		return
	}
	if outcome != 1 {
		m.change(func(s *modelState) {
			s.settings = maps.Clone(s.settings)
			s.settings["retention.bytes"], s.since = value, s.revision
		})
		if m.IntN(2) == 0 {
			m.tell(1 + m.IntN(3))
		}
	}
	if outcome <= 2 {
		m.say(client, history.Event{Kind: history.SettingsUnknown, Op: op, Reason: "UNAVAILABLE"})
		return
	}
	m.say(client, history.Event{Kind: history.SettingsOK, Op: op, Settings: &history.Settings{Revision: m.now().since, Now: m.now().settings}})
}

// ask has the client ask a broker for the topic.
func (m *model) ask(b int) {
	at := slices.IndexFunc(m.states, func(s modelState) bool { return s.revision == m.told[b] })
	if at < 0 {
		return // it was told of nothing yet
	}
	s := m.states[at]
	record := s.record
	record.Revision = 0 // clients are not told that
	m.say(client, history.Event{Kind: history.TopicRead, Metadata: &history.Metadata{
		Revision: s.revision, Least: s.revision * int64(m.IntN(2)),
		Topics: []history.TopicState{{Topic: "t", ID: modelID, Revision: s.since, Settings: s.settings, Partitions: []history.PartitionState{record}}},
	}})
}
