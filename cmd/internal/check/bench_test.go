package check

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// BenchmarkObserve judges appends of one partition that are acknowledged and
// read in frames of ten: what an append costs.
func BenchmarkObserve(b *testing.B) {
	s := &tale{}
	const n = 10_000
	var frame []history.Batch
	for op := range uint64(n) {
		s.invoke(op+1, content(history.Digest(op+1)))
		s.ok(op+1, history.Ack{Base: int64(op), Epoch: 1})
		if frame = append(frame, batch(int64(op), 1, history.Digest(op+1))); len(frame) == 10 {
			from := frame[0].Base
			if from == 0 {
				s.say(client, history.Event{Kind: history.ReadBegin, Read: &history.Read{Reader: 1}})
			}
			s.say(client, history.Event{Kind: history.ReadOK, Batches: frame, Read: &history.Read{Reader: 1, From: from, Next: from + 10, HighWatermark: from + 10}})
			frame = nil
		}
	}
	b.Run("observe", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if failures(judge(s.events)) > 0 {
				b.Fatal("it does not pass")
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/append")
	})
	b.Run("decode", func(b *testing.B) {
		var lines [][]byte
		for i := range s.events {
			line, err := json.Marshal(&s.events[i])
			if err != nil {
				b.Fatal(err)
			}
			lines = append(lines, line)
		}
		b.SetBytes(int64(len(bytes.Join(lines, nil))))
		for b.Loop() {
			for _, line := range lines {
				var e history.Event
				if err := json.Unmarshal(line, &e); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/append")
	})
}
