package history

import (
	"encoding/json"
	"reflect"
	"testing"
)

// fullEvent has every field that the decoder reads by itself.
func fullEvent() Event {
	leader := int32(3)
	return Event{
		Kind: ReadOK, T: 1, Wall: 2, Topic: "t", Partition: 1, Op: 2, Reason: "because",
		Append:  &Append{Content: Content{N: 2, Digest: 1 << 63, Digests: []Digest{1, 0xabc}}, ID: "x", Session: 4, Acks: AcksLeader, Tries: 5},
		Ack:     &Ack{Scope: ScopeLeader, Medium: MediumMemory, InSync: 6, Base: 7, Epoch: 8, Leader: &leader},
		Read:    &Read{Reader: 1, Position: AtEarliest, Seek: true, UntilEnd: true, Drain: true, From: 1 << 59, Next: 3, HighWatermark: 4, LogStart: 5, Finished: true},
		Batches: []Batch{{Base: 1, Epoch: -2, CRC: 1<<32 - 1, Control: true, Content: Content{N: 3, Digest: 4}}, {Base: 2}},
		Replica: &Replica{Of: 9, Epoch: 1, PartitionEpoch: 10, HighWatermark: 2, End: 3, Start: 4, CleanEnd: 5, From: 6, To: 7, ISR: []int32{1, 2}, MinISR: 8, Medium: MediumDisk, InSync: true, Last: true},
	}
}

// The decoder reads what a Writer writes without encoding/json.
func TestDecodeByItself(t *testing.T) {
	want := fullEvent()
	line, err := json.Marshal(&want)
	if err != nil {
		t.Fatal(err)
	}
	var got Event
	d := newDecoder()
	d.b = line
	if d.event(&got); d.bad || d.i != len(line) {
		t.Fatalf("it stops at %q", line[d.i:])
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// FuzzDecode compares the decoder with encoding/json: same events, same lines
// refused.
func FuzzDecode(f *testing.F) {
	full := fullEvent()
	line, err := json.Marshal(&full)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	for _, s := range []string{
		``, `{`, `{}`, `{"t":01}`, `{"t":-0}`, `{"t":1.5}`, `{"t":1e3}`, `{"t":9223372036854775807}`, `{"t":99999999999999999999}`, `{"op":-1}`, `{"op":-0}`,
		`{"partition":4294967296}`, `{"T":5}`, `{"kind":null}`, `{"kind":"\u0041"}`, `{"kind":"é"}`, ` {"t":1}`, `{"t":1} `, `{"t":1}x`, `{"t":1,}`,
		`{"batches":[]}`, `{"batches":null}`, `{"batches":[{"base":1}],"batches":[{"epoch":1}]}`, `{"append":{"n":1},"append":{"digest":"00000000000000aA"}}`,
		`{"read":{"seek":true,"seek":false,"nothing":1}}`, `{"recorder":{"version":1}}`, `{"fault":{"kind":"power","broker":1}}`, `{"ack":{"leader":null}}`, `{"settings":{"set":{"a":"b"},"expected":0}}`, `{"metadata":{"revision":1,"topics":[{"partitions":[{"leader":-1}]}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var got, want Event
		err := newDecoder().decode(line, &got)
		if wrong := json.Unmarshal(line, &want); (err == nil) != (wrong == nil) {
			t.Fatalf("%q: %v, and encoding/json says %v", line, err, wrong)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q\ngot  %+v\nwant %+v", line, got, want)
		}
	})
}
