package api

import (
	"testing"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// A record comes between the look at the end of the log and the frame that would
// say that it is the end. That frame is not sent, so what it would have said
// first comes with the next one: who passes frames on, and the client, know by
// the topic's name where a subscription begins.
func TestTheFirstFrameThatIsSentNamesTheTopic(t *testing.T) {
	m := ownWith(t, 1, nil)
	for name, form := range map[string]pb.FetchForm{"batches": pb.FetchForm_FETCH_FORM_BATCHES, "records": pb.FetchForm_FETCH_FORM_RECORDS} {
		t.Run(name, func(t *testing.T) {
			f := &fetchStream{s: m.service, work: make(chan struct{}, 1)}
			s := &subscription{f: f, id: 1, topic: m.mirror.Current().TopicByName("t"), part: m.own, form: form, goal: goal{end: noEnd}}
			if err := f.atEnd(s); err != nil { // it found none
				t.Fatal(err)
			}
			if s.state != ready || s.caughtUp {
				t.Errorf("there is a record, and it is %+v", s)
			}
			r, atEnd := s.head(1)
			if r.Topic != "t" || !r.HasTopicID || !r.HasBrokerID || !atEnd {
				t.Errorf("the first frame says %+v", r)
			}
			s.said(&r)
			if r, _ := s.head(1); r.Topic != "" || r.HasTopicID || r.HasBrokerID || !s.caughtUp {
				t.Errorf("the second frame says %+v", r)
			}
		})
	}
}
