package broker

import (
	"testing"
	"testing/synctest"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// Nobody leads after a power cut: the controller asks for what is left, and
// the broker says where its log ends and in which epoch that was written.
func TestWhatIsLeftOfALogIsToldWhenItIsWanted(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 2, nil)
		synctest.Wait()
		e.mustProduce("flights", 1, "a")
		e.mustProduce("flights", 1, "b")
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		e.cluster.leaderless = true
		for n := range uint32(2) {
			e.cluster.wanted = append(e.cluster.wanted, &controllerv1.WantedLog{TopicId: topicID(1), Partition: n})
		}
		// Of a topic that is not there, of a partition that is not, and no id.
		e.cluster.wanted = append(e.cluster.wanted,
			&controllerv1.WantedLog{TopicId: topicID(2)}, &controllerv1.WantedLog{TopicId: topicID(1), Partition: 2}, &controllerv1.WantedLog{})
		e.start()
		pass(3 * leastPause)
		synctest.Wait()
		e.cluster.mu.Lock()
		last := e.cluster.beats[len(e.cluster.beats)-1]
		revision := e.cluster.revision
		e.cluster.mu.Unlock()
		got := map[uint32]*controllerv1.RecoveredLog{}
		for _, l := range last.GetRecoveredLogs() {
			got[l.GetPartition()] = l
		}
		if len(last.GetRecoveredLogs()) != 2 || got[0].GetEnd() != 0 || got[0].GetLastLeaderEpoch() != 0 || got[1].GetEnd() != 2 || got[1].GetLastLeaderEpoch() != 1 || last.GetRevision() != revision {
			t.Fatalf("told is %v", last)
		}
		// Somebody leads: what is still asked for is not told.
		e.cluster.mu.Lock()
		e.cluster.leaderless = false
		e.cluster.publishLocked(false, e.cluster.partitions(1, e.cluster.topics[1])...)
		before := len(e.cluster.beats)
		e.cluster.mu.Unlock()
		synctest.Wait()
		e.b.beatNow()
		synctest.Wait()
		e.cluster.mu.Lock()
		last = e.cluster.beats[len(e.cluster.beats)-1]
		more := len(e.cluster.beats) > before
		e.cluster.mu.Unlock()
		if !more || len(last.GetRecoveredLogs()) != 0 {
			t.Errorf("of partitions that are led it tells %v", last.GetRecoveredLogs())
		}
		if err := e.halt(); err != nil {
			t.Error(err)
		}
	})
}
