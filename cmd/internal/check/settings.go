package check

import (
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// topic is the settings of a topic, as they were asked for and told.
type topic struct {
	register[configuration]
	asked map[string]map[string]*asked // by setting and value
	meant []meant
}

// configuration is what is set for a topic.
type configuration map[string]string

func (c configuration) join(other configuration) (configuration, bool) {
	return c, maps.Equal(c, other)
}

// String says it for people.
func (c configuration) String() string { return fmt.Sprint(map[string]string(c)) }

// asked is a value that clients have asked for.
type asked struct {
	times int // how often it may have been set
	found int // how often it was
	t     int64
	at    history.Location
}

// meant is a change that was carried out, and meant for a revision.
type meant struct {
	expected, revision int64
	at                 history.Location
}

// change is a change that was asked for and is not completed.
type change struct {
	history.Settings
	topic *topic
	after mark // what was told before it was asked for
	at    history.Location
}

func (m *metadata) topic(generation uint32, name string) *topic {
	k := topicKey{generation, name}
	t := m.topics[k]
	if t == nil {
		t = &topic{asked: map[string]map[string]*asked{}}
		t.scribe, t.versions = scribe{topic: name, tally: m.tally}, map[int64]*version[configuration]{}
		m.topics[k] = t
	}
	return t
}

// ask takes a change that is asked for.
func (m *metadata) ask(e *history.Event) {
	t := m.topic(m.generation, e.Topic)
	key := opKey{e.At.Source, e.Op}
	if before := m.changes[key]; before != nil {
		t.violated(Whole, at(before.at, e.At), "settings %d are asked for twice", e.Op)
		return
	}
	m.changes[key] = &change{Settings: *e.Settings, topic: t, after: t.newest, at: e.At}
	for name, v := range e.Settings.Set {
		if t.asked[name] == nil {
			t.asked[name] = map[string]*asked{}
		}
		if t.asked[name][v] == nil {
			t.asked[name][v] = &asked{t: e.T, at: e.At}
		}
		t.asked[name][v].times++
	}
}

// answer takes what became of it.
func (m *metadata) answer(e *history.Event) {
	key := opKey{e.At.Source, e.Op}
	c := m.changes[key]
	if c == nil || c.topic.topic != e.Topic {
		scribe{topic: e.Topic, tally: m.tally}.violated(Whole, at(e.At), "%s %d was not asked for, or not of this topic, or is completed twice", e.Kind, e.Op)
		return
	}
	delete(m.changes, key)
	switch e.Kind { //nolint:exhaustive // the others say nothing
	case history.SettingsOK:
		if !m.restored {
			c.done(e)
		}
	case history.SettingsFail:
		for name, v := range c.Set {
			c.topic.asked[name][v].times--
		}
	}
}

// done takes that it was carried out.
func (c *change) done(e *history.Event) {
	t, now := c.topic, e.Settings
	t.told(now.Revision, now.Revision, configuration(now.Now), e).current.raise(now.Revision, e.At)
	if now.Revision < c.after.n {
		t.violated(R24, at(c.after.at, c.at, e.At), "settings were changed in revision %d, and were those of revision %d before that was asked for", now.Revision, c.after.n)
	}
	for name, v := range c.Set {
		if got := now.Now[name]; got != v {
			t.violated(R24, at(c.at, e.At), "%s was set to %q, and is %q in the revision with the change", name, v, got)
		}
	}
	if c.Expected != nil {
		t.meant = append(t.meant, meant{*c.Expected, now.Revision, e.At})
	}
}

// finish looks that every value comes from somebody who asked for it before, and
// as often as that; and that nothing came between a change and what it was meant
// for.
func (t *topic) finish(restored bool) {
	all := t.inOrder()
	t.register.finish(all)
	if restored {
		return
	}
	for i, x := range all {
		if i > 0 {
			t.finishChange(all[i-1], x)
		}
	}
	for _, c := range t.meant {
		t.judged(R24)
		next := sort.Search(len(all), func(i int) bool { return all[i].number > c.expected })
		if next < len(all) && all[next].number < c.revision {
			t.violated(R24, at(all[next].at, c.at), "a change that was meant for revision %d was carried out in revision %d, after that of revision %d", c.expected, c.revision, all[next].number)
		}
	}
}

// finishChange looks who has asked for what is another in the later of two
// versions: only at settings for which anybody has asked.
func (t *topic) finishChange(before, x *version[configuration]) {
	for _, name := range slices.Sorted(maps.Keys(x.value)) {
		v, values := x.value[name], t.asked[name]
		if values == nil || before.value[name] == v {
			continue
		}
		t.judged(R24)
		a := values[v]
		if a == nil {
			t.violated(R24, at(x.at), "%s is %q in revision %d, and nobody has asked for that", name, v, x.number)
			continue
		}
		a.found++
		switch {
		case a.found > a.times:
			t.violated(R24, at(a.at, x.at), "%s is %q again in revision %d: that was asked for %d times without being refused, and is there %d times", name, v, x.number, a.times, a.found)
		case x.t < a.t:
			t.violated(R24, at(x.at, a.at), "%s is %q in revision %d, before that was asked for", name, v, x.number)
		}
	}
}
