package broker

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/storage/checkpoint"
)

// restore makes the cluster one of the next generation, whose metadata is what
// shape makes of topics of one partition. The broker learns of it by itself.
func (c *cluster) restore(topics map[byte]func(*controllerv1.PartitionRecord)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.epoch += 1 << 20 // no broker has that
	c.revision += 1 << 20
	c.topics, c.shape = map[byte]*controllerv1.TopicRecord{}, topics
	var changes []*controllerv1.MetadataChange
	for n := range topics {
		c.topics[n] = &controllerv1.TopicRecord{TopicId: topicID(n), Topic: "topic" + string('0'+n), PartitionCount: 1, ReplicationFactor: 2}
		c.wanted = append(c.wanted, &controllerv1.WantedLog{TopicId: topicID(n)})
		changes = append(changes, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Topic{Topic: c.topics[n]}})
		changes = append(changes, c.partitions(n, c.topics[n])...)
	}
	c.publishLocked(true, changes...)
}

// reshape changes the partitions of a topic.
func (c *cluster) reshape(n byte, f func(*controllerv1.PartitionRecord)) {
	c.mu.Lock()
	c.shape[n] = f
	c.publishLocked(false, c.partitions(n, c.topics[n])...)
	c.mu.Unlock()
	synctest.Wait()
}

// told is what the broker last told of its logs, by topic.
func (c *cluster) told() map[byte]*controllerv1.RecoveredLog {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := map[byte]*controllerv1.RecoveredLog{}
	for _, l := range c.beats[len(c.beats)-1].GetRecoveredLogs() {
		m[l.GetTopicId()[15]] = l
	}
	return m
}

// fromBackup is a partition as a restored cluster has it at first.
func fromBackup(replicas ...int32) func(*controllerv1.PartitionRecord) {
	return func(p *controllerv1.PartitionRecord) {
		p.Leader, p.LeaderEpoch, p.InSyncReplicas, p.LastKnown = -1, p.LeaderEpoch+1<<16, nil, replicas
		p.Replicas, p.FromBackup, p.AwaitedLogs = replicas, true, 2
		for len(p.DirectoryIds) < len(replicas) {
			p.DirectoryIds = append(p.DirectoryIds, topicID(200))
		}
	}
}

// ledBy is a partition that a broker leads, with others in sync.
func ledBy(replicas ...int32) func(*controllerv1.PartitionRecord) {
	return func(p *controllerv1.PartitionRecord) {
		p.Leader, p.LeaderEpoch, p.InSyncReplicas, p.Replicas = replicas[0], p.LeaderEpoch+1<<16+1, replicas, replicas
		p.DirectoryIds = nil
	}
}

func (e *env) hasLog(n byte) bool {
	return slices.Contains(e.names("topics"), ID16(topicID(n)).String()+"-0")
}

// again restarts the broker in order.
func (e *env) again() {
	e.t.Helper()
	if err := e.halt(); err != nil {
		e.t.Fatal(err)
	}
	e.start()
	pass(3 * leastPause)
	synctest.Wait()
}

// A broker that runs while its cluster is restored registers anew, and says of
// each partition whether it held a log before, not whether it has one by now;
// after a restart it says the same.
func TestARestoredClusterIsToldWhatWasThere(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "topic1", 1, nil)
		e.cluster.create(2, "later", 1, nil)
		e.cluster.create(3, "topic3", 1, nil)
		e.cluster.create(4, "empty", 1, nil)
		for _, topic := range []string{"topic1", "later", "topic3"} {
			e.mustProduce(topic, 0, "a")
		}
		leader, _, err := e.b.Partition("topic1", 0)
		if err != nil {
			t.Fatal(err)
		}
		e.cluster.restore(map[byte]func(*controllerv1.PartitionRecord){
			1: fromBackup(1, 2), 3: fromBackup(2, 3), 4: fromBackup(1, 2), 5: fromBackup(1, 2), 6: fromBackup(2, 3),
		})
		pass(time.Second)
		synctest.Wait()
		if _, err := appendTo(leader, "stale"); err == nil {
			t.Error("a leader of the generation before acknowledges")
		}
		if e.b.identity.Load().Generation != 2 || len(e.cluster.registered) != 2 || e.cluster.registered[1].GetClusterGeneration() != 1 {
			t.Fatalf("it registered as %v", e.cluster.registered)
		}
		for range 2 {
			got := e.cluster.told()
			if l := got[1]; l.GetAbsent() || l.GetEnd() != 1 || l.GetLastLeaderEpoch() != 1 {
				t.Errorf("of the log that it has it tells %v", l)
			}
			if l := got[3]; l == nil || l.GetAbsent() {
				t.Errorf("of the log of a partition that the metadata has elsewhere it tells %v", l)
			}
			if l := got[4]; l == nil || l.GetAbsent() || l.GetEnd() != 0 {
				t.Errorf("of the empty log it tells %v", l)
			}
			if !got[5].GetAbsent() || !got[6].GetAbsent() {
				t.Errorf("of logs that it had not it tells %v and %v", got[5], got[6])
			}
			if !e.hasLog(2) || !e.hasLog(3) || !e.hasLog(5) {
				t.Errorf("there are %q", e.names("topics"))
			}
			e.again()
		}
		orphans, err := e.b.Orphans()
		if err != nil || len(orphans) != 2 || orphans[0].TopicID != ID16(topicID(2)).String() || orphans[1].TopicID != ID16(topicID(3)).String() {
			t.Errorf("orphans are %+v, %v", orphans, err)
		}
	})
}

// What was found is kept until the metadata has had this broker hold it: who
// leads did not know of it.
func TestALogThatWasFoundIsNotGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "topic1", 1, nil)
		e.cluster.create(2, "topic2", 1, nil)
		e.mustProduce("topic1", 0, "a")
		e.cluster.restore(map[byte]func(*controllerv1.PartitionRecord){1: fromBackup(2, 3), 2: fromBackup(1, 2)})
		pass(time.Second)
		synctest.Wait()
		e.cluster.reshape(1, ledBy(2, 3)) // somebody accepted the loss
		e.cluster.reshape(2, ledBy(2, 3)) // this broker held it, and it was moved away
		for range 2 {
			if !e.hasLog(1) || e.hasLog(2) {
				t.Fatalf("there are %q, in the trash %q", e.names("topics"), e.names("trash"))
			}
			e.again()
		}
		// It is to hold the partition that others lead: anew.
		e.cluster.reshape(1, func(p *controllerv1.PartitionRecord) {
			ledBy(2, 3)(p)
			p.Replicas, p.AddingReplicas, p.TargetReplicas = []int32{2, 3, 1}, []int32{1}, []int32{2, 1}
		})
		pass(time.Second)
		synctest.Wait()
		aside := ID16(topicID(1)).String() + "-0.before-generation-2"
		if names := e.names("topics"); !slices.Contains(names, aside) || !e.hasLog(1) {
			t.Fatalf("there are %q", names)
		}
		orphans, err := e.b.Orphans()
		if err != nil || !slices.ContainsFunc(orphans, func(o Orphan) bool { return strings.HasSuffix(o.Directory, aside) && o.Bytes > 0 }) {
			t.Errorf("orphans are %+v, %v", orphans, err)
		}
		// From here on it is as any other.
		e.cluster.reshape(1, ledBy(2, 3))
		if e.hasLog(1) {
			t.Errorf("there are %q", e.names("topics"))
		}
	})
}

// A deletion that was recorded in an earlier generation removes nothing, and
// what it leaves is told.
func TestADeletionOfAnotherGenerationDeletesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "topic1", 1, nil)
		e.mustProduce("topic1", 0, "a")
		e.cluster.restore(map[byte]func(*controllerv1.PartitionRecord){})
		e.cluster.publish(false, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Deletion{
			Deletion: &controllerv1.DeletionRecord{TopicId: topicID(1), Topic: "topic1", ClusterGeneration: 1},
		}})
		pass(time.Second)
		for range 2 {
			synctest.Wait()
			orphans, err := e.b.Orphans()
			if err != nil || len(orphans) != 1 || !strings.Contains(orphans[0].Why, "earlier generation") || !e.hasLog(1) {
				t.Fatalf("orphans are %+v, %v; there are %q", orphans, err, e.names("topics"))
			}
			e.again()
		}
	})
}

func TestADamagedRecordOfWhatWasFoundIsSaid(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "topic1", 1, nil)
		e.cluster.restore(map[byte]func(*controllerv1.PartitionRecord){1: fromBackup(1, 2)})
		pass(time.Second)
		synctest.Wait()
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		if err := writeFound(e.fs, dataDir, 2, map[logKey]bool{{}: true}); err != nil {
			t.Fatal(err)
		}
		f := new(found)
		if err := f.load(e.fs, dataDir, 3); err != nil || f.generation != 3 || len(f.logs) != 0 {
			t.Errorf("of an earlier generation: %v, %v", f.logs, err)
		}
		if err := f.load(e.fs, dataDir, 2); err != nil || len(f.logs) != 1 {
			t.Errorf("of this one: %v, %v", f.logs, err)
		}
		if err := checkpoint.Write(e.fs, foundPath(dataDir), []byte("{"), true); err != nil {
			t.Fatal(err)
		}
		e.launch(e.fs)
		if err := <-e.ended; err == nil {
			t.Error("it starts without knowing what was there")
		}
		e.stop()
	})
}
