package broker

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/partition"
)

func (e *env) names(dir string) []string {
	e.t.Helper()
	list, err := e.mem.ReadDir(filepath.Join(dataDir, dir))
	if err != nil {
		e.t.Fatal(err)
	}
	var names []string
	for _, entry := range list {
		names = append(names, entry.Name())
	}
	return names
}

// Rule S5: a deleted topic is in the trash for 24 hours.
func TestADeletedTopicGoesToTheTrashFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		// A day of fake time: fewer ticks.
		e.cluster.beatMs, e.opts.CheckpointInterval, e.opts.RetentionInterval = 60_000, time.Hour, time.Hour
		e.start()
		e.cluster.create(1, "flights", 2, nil)
		e.cluster.create(2, "kept", 1, nil)
		p, _, err := e.b.Partition("flights", 0)
		if err != nil {
			t.Fatal(err)
		}
		e.mustProduce("flights", 0, "a")
		e.mustProduce("kept", 0, "b")
		e.cluster.remove(1, false)
		synctest.Wait()
		if _, err := appendTo(p, "late"); !errors.Is(err, partition.ErrClosed) {
			t.Fatalf("a deleted log answered %v", err)
		}
		if _, err := e.produce("flights", 0, "late"); wantError[*UnknownTopicError](t, err).Topic != "flights" {
			t.Fatal(err)
		}
		if logs, trash := e.names("topics"), e.names("trash"); len(logs) != 1 || len(trash) != 2 || !strings.HasPrefix(trash[0], ID16(topicID(1)).String()+"-0.") {
			t.Fatalf("topics %q, trash %q", logs, trash)
		}
		pass(23 * time.Hour)
		if trash := e.names("trash"); len(trash) != 2 {
			t.Fatalf("after 23 h the trash has %q", trash)
		}
		pass(2 * time.Hour)
		if trash := e.names("trash"); len(trash) != 0 {
			t.Fatalf("after 25 h the trash has %q", trash)
		}
		e.mustProduce("kept", 0, "c")
	})
}

func TestDeleteNowSkipsTheTrash(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 3, nil)
		e.mustProduce("flights", 2, "a")
		e.cluster.remove(1, true)
		synctest.Wait()
		if logs, trash := e.names("topics"), e.names("trash"); len(logs) != 0 || len(trash) != 0 {
			t.Fatalf("topics %q, trash %q", logs, trash)
		}
	})
}

// A topic that came and went while the broker was busy is not left behind,
// though a client has used it meanwhile.
func TestATopicThatCameAndWentLeavesNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the broker sees both at once
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.announce(1, "flights", 1, nil)
		p, err := e.b.PartitionOf(e.cluster.mirror.Current().TopicByName("flights"), 0)
		if err != nil {
			t.Fatal(err)
		}
		e.cluster.remove(1, true)
		synctest.Wait()
		if _, err := appendTo(p, "late"); !errors.Is(err, partition.ErrClosed) {
			t.Fatalf("a deleted log answered %v", err)
		}
		if logs := e.names("topics"); len(logs) != 0 {
			t.Fatalf("topics %q", logs)
		}
	})
}

// A client that knows of a topic sooner than the broker has looked at it finds a
// log that stays.
func TestALogThatAClientWasFirstToUseStays(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the broker sees the topic last
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		before := e.cluster.mirror.Current()
		e.cluster.announce(1, "flights", 1, nil)
		p, err := e.b.PartitionOf(e.cluster.mirror.Current().TopicByName("flights"), 0)
		if err != nil {
			t.Fatal(err)
		}
		e.b.dropBypassed(before) // it is still busy with what was before
		synctest.Wait()
		if _, err := appendTo(p, "kept"); err != nil {
			t.Fatal(err)
		}
		e.cluster.remove(1, true)
		synctest.Wait()
		if logs := e.names("topics"); len(logs) != 0 {
			t.Errorf("removed, it has left %q", logs)
		}
	})
}

// The trash goes sooner when the disk is nearly full.
func TestAFullDiskEmptiesTheTrash(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.mem.SetCapacity(1 << 20)
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		for range 8 {
			e.mustProduce("flights", 0, strings.Repeat("x", 100<<10))
		}
		e.cluster.remove(1, false)
		synctest.Wait()
		if trash := e.names("trash"); len(trash) != 1 {
			t.Fatalf("trash %q", trash)
		}
		e.cluster.create(2, "next", 1, nil)
		e.mustProduce("next", 0, strings.Repeat("x", 100<<10))
		pass(2 * trashInterval)
		if trash := e.names("trash"); len(trash) != 0 {
			t.Fatalf("the disk is above its high water and the trash has %q", trash)
		}
	})
}

// What was deleted while the broker was away goes when it is back; what the
// metadata does not know stays.
func TestAbsenceNeverDeletes(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		e.cluster.create(2, "forgotten", 1, nil)
		e.mustProduce("flights", 0, "a")
		e.mustProduce("forgotten", 0, "b")
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		if err := e.mem.MkdirAll(filepath.Join(dataDir, "topics", "what is this"), 0o755); err != nil {
			t.Fatal(err)
		}
		e.cluster.remove(1, false)
		// A snapshot that has lost a topic without a trace, as after a restore.
		delete(e.cluster.topics, 2)
		e.cluster.publish(true, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Deletion{
			Deletion: &controllerv1.DeletionRecord{TopicId: topicID(1), Topic: "flights", ClusterGeneration: 1},
		}})
		e.start()
		if trash := e.names("trash"); len(trash) != 1 || !strings.HasPrefix(trash[0], ID16(topicID(1)).String()) {
			t.Fatalf("trash %q", trash)
		}
		orphans, err := e.b.Orphans()
		if err != nil || len(orphans) != 3 {
			t.Fatalf("%+v, %v", orphans, err)
		}
		of := func(id string) Orphan {
			i := slices.IndexFunc(orphans, func(o Orphan) bool { return o.TopicID == id })
			if i < 0 {
				t.Fatalf("%q is not in %+v", id, orphans)
			}
			return orphans[i]
		}
		if o := of(ID16(topicID(2)).String()); o.Partition != 0 || o.Why == "" || o.Bytes == 0 || o.Trash {
			t.Errorf("a topic that is forgotten: %+v", o)
		}
		if o := of(ID16(topicID(1)).String()); o.Bytes == 0 || !o.Trash {
			t.Errorf("a topic that is deleted: %+v", o)
		}
		if o := of(""); o.Bytes != 0 || o.Trash {
			t.Errorf("a stranger: %+v", o)
		}
	})
}

// A topic that leaves the metadata while the broker runs, without a record of
// its deletion, is closed and kept.
func TestATopicThatVanishesIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		e.mustProduce("flights", 0, "a")
		delete(e.cluster.topics, 1)
		e.cluster.publish(true)
		synctest.Wait()
		if logs, trash := e.names("topics"), e.names("trash"); len(logs) != 1 || len(trash) != 0 {
			t.Fatalf("topics %q, trash %q", logs, trash)
		}
		// A deletion of another generation of the cluster is no reason either.
		e.cluster.publish(true, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Deletion{
			Deletion: &controllerv1.DeletionRecord{TopicId: topicID(1), Topic: "flights", ClusterGeneration: 9},
		}})
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		e.start()
		if logs, trash := e.names("topics"), e.names("trash"); len(logs) != 1 || len(trash) != 0 {
			t.Fatalf("topics %q, trash %q", logs, trash)
		}
	})
}

// A topic of the same name is another topic.
func TestDeleteAndCreateAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		e.mustProduce("flights", 0, "a")
		e.mustProduce("flights", 0, "b")
		e.cluster.remove(1, false)
		e.cluster.create(2, "flights", 1, nil)
		if r := e.mustProduce("flights", 0, "c"); r.Base != 0 {
			t.Fatalf("%+v", r)
		}
		synctest.Wait()
		if _, err := e.mem.Stat(filepath.Join(dataDir, "topics", ID16(topicID(1)).String()+"-0")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the old log: %v", err)
		}
	})
}

func TestNamesOfLogs(t *testing.T) {
	k := keyOf([16]byte{15: 0xab}, 7)
	if got, ok := parseLogKey(k.String()); !ok || got != k {
		t.Fatalf("%s is read as %v", k, got)
	}
	for _, bad := range []string{
		"", "-", "ab-1", k.String() + "0x", strings.ToUpper(k.String()), k.String()[:33], k.String()[:33] + "07",
		k.String()[:33] + "-1", k.String()[:33] + "4294967296", k.String()[:33] + "+1", k.String() + "-1",
	} {
		if got, ok := parseLogKey(bad); ok {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
}

func FuzzParseLogKey(f *testing.F) {
	f.Add("000000000000000000000000000000ab-7")
	f.Fuzz(func(t *testing.T, name string) {
		if k, ok := parseLogKey(name); ok && k.String() != name {
			t.Fatalf("%q is read as %s", name, k)
		}
	})
}
