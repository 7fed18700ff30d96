package broker

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func TestProduceStopStart(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 2, nil)
		if r := e.cluster.registered[0]; r.GetFeatureLevelMin() != featureLevel || r.GetFeatureLevelMax() != featureLevel {
			t.Errorf("it does not say what it can serve: %v", r)
		}
		first := e.mustProduce("flights", 1, "a")
		if first.Base != 0 || first.Epoch != 1 || first.Medium != partition.MediumDisk {
			t.Fatalf("%+v", first)
		}
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		inc, err := loadIncarnation(e.mem, dataDir, 1)
		if err != nil || !inc.Clean || inc.BrokerEpoch != 100 || inc.ClusterID != ID16(clusterID) {
			t.Fatalf("%+v, %v", inc, err)
		}

		e.start()
		reg := e.cluster.registered[1]
		if !reg.GetClean() || !reg.GetSameBoot() || reg.GetPreviousBrokerEpoch() != 100 || string(reg.GetClusterId()) != string(clusterID) {
			t.Fatalf("%+v", reg)
		}
		// Rule H6: every incarnation leads in a new epoch.
		if second := e.mustProduce("flights", 1, "b"); second.Base != 1 || second.Epoch != 2 {
			t.Fatalf("%+v", second)
		}
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		if n := e.mem.OpenFiles(); n != 0 {
			t.Fatalf("%d files are open after the stop", n)
		}
	})
}

// Rule S3: not clean, with the new epoch, on disk before the first append.
func TestTheIncarnationIsWrittenBeforeTheFirstAppend(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		synctest.Wait()
		e.mustProduce("flights", 0, "a")
		crashed := e.mem.Crash(memfs.LoseUnsynced())
		inc, err := loadIncarnation(crashed, dataDir, 1)
		if err != nil || inc.Clean || inc.BrokerEpoch != 100 {
			t.Fatalf("%+v, %v", inc, err)
		}

		// The machine comes back: what was acknowledged is there.
		next := newEnv(t)
		next.cluster, next.mem, next.fs = e.cluster, crashed, faultfs.Wrap(crashed)
		next.opts.BootID = func() ID16 { return ID16{8} }
		_ = e.halt()
		next.start()
		reg := e.cluster.registered[1]
		if reg.GetClean() || reg.GetSameBoot() || reg.GetPreviousBrokerEpoch() != 100 {
			t.Fatalf("%+v", reg)
		}
		if end := next.end("flights", 0); end != 1 {
			t.Fatalf("readable end is %d", end)
		}
		if err := next.halt(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLookups(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.build(e.fs)
		e.cluster.announce(1, "flights", 2, nil)
		if _, _, err := e.b.Partition("flights", 0); wantError[*NotLeaderError](t, err).Leader != -1 {
			t.Fatalf("before it serves: %v", err)
		}
		e.run()
		synctest.Wait()
		if _, _, err := e.b.Partition("nothing", 0); wantError[*UnknownTopicError](t, err).Topic != "nothing" {
			t.Fatal(err)
		}
		if _, _, err := e.b.Partition("flights", 2); wantError[*UnknownPartitionError](t, err).Count != 2 {
			t.Fatal(err)
		}
		p, topic, err := e.b.Partition("flights", 1)
		if err != nil || topic.Name != "flights" || !p.State().Leading {
			t.Fatalf("%v, %v", topic, err)
		}
		// The metadata gives the partition to nobody.
		change := e.cluster.partitions(1, e.cluster.topics[1])[1]
		change.GetPartition().Leader, change.GetPartition().LeaderEpoch, change.GetPartition().PartitionEpoch = -1, 9, 1
		e.cluster.publish(false, change)
		if _, _, err := e.b.Partition("flights", 1); wantError[*NotLeaderError](t, err).Epoch != 9 {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := appendTo(p, "late"); wantError[*partition.NotLeaderError](t, err).Epoch != 9 {
			t.Fatal(err)
		}
	})
}

// Who has another broker of its number beside it waits for as long as that may
// be one that has died, and gives up then.
func TestABrokerOfANumberThatIsAliveGivesUp(t *testing.T) {
	for _, dies := range []bool{true, false} {
		inBubble(t, func(t *testing.T, e *env) {
			e.cluster.setDoubled(true)
			e.launch(e.fs)
			pass(aliveFor / 2)
			synctest.Wait()
			if e.b.Ready() {
				t.Fatal("it is ready")
			}
			e.cluster.setDoubled(!dies)
			pass(aliveFor)
			synctest.Wait()
			if dies {
				if !e.b.Ready() {
					t.Fatal("it waits still")
				}
				return
			}
			select {
			case err := <-e.ended:
				if status.Code(err) != codes.AlreadyExists {
					t.Fatal(err)
				}
			default:
				t.Fatal("it tries still")
			}
			e.stop()
			e.stop = nil
		})
	}
}

// A data directory has one user, one broker and one cluster.
func TestADirectoryIsNotShared(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		other := *e
		other.launch(e.fs)
		if locked := wantError[*vfs.LockedError](t, <-other.ended); !strings.Contains(locked.Error(), "in use") {
			t.Fatal(locked)
		}
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		if _, err := loadIncarnation(e.mem, dataDir, 2); wantError[*WrongBrokerError](t, err).Owner != 1 {
			t.Fatal(err)
		}
		inc, err := loadIncarnation(e.mem, dataDir, 1)
		if err != nil {
			t.Fatal(err)
		}
		inc.ClusterID = ID16{1}
		if err := inc.store(e.mem, dataDir); err != nil {
			t.Fatal(err)
		}
		e.launch(e.fs)
		if wrong := wantError[*WrongClusterError](t, <-e.ended); wrong.Have != (ID16{1}) {
			t.Fatal(wrong)
		}
	})
}

// Silence of the controller stops neither the start (it waits) nor, later on,
// the data (rule H5).
func TestTheControllerIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.cluster.setDown(true)
		e.launch(e.fs)
		pass(time.Minute)
		if e.b.Ready() {
			t.Fatal("ready without a controller")
		}
		e.cluster.setDown(false)
		pass(2 * time.Second)
		synctest.Wait()
		if !e.b.Ready() {
			t.Fatal("not ready")
		}
		e.cluster.create(1, "flights", 1, nil)
		e.mustProduce("flights", 0, "a")
		e.cluster.setDown(true)
		pass(5 * time.Minute)
		if r := e.mustProduce("flights", 0, "b"); r.Base != 1 {
			t.Fatalf("%+v", r)
		}
		e.cluster.setDown(false)
	})
}

// A controller that does not know the incarnation any more gets another.
func TestStaleRegistrationIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		e.mustProduce("flights", 0, "a")
		e.cluster.mu.Lock()
		e.cluster.epoch += 100
		e.cluster.mu.Unlock()
		pass(2 * time.Second)
		synctest.Wait()
		if n := len(e.cluster.registered); n != 2 {
			t.Fatalf("%d registrations", n)
		}
		if r := e.mustProduce("flights", 0, "b"); r.Base != 1 || r.Epoch != 3 {
			t.Fatalf("%+v", r)
		}
		inc, err := loadIncarnation(e.mem, dataDir, 1)
		if err != nil || inc.BrokerEpoch != 300 {
			t.Fatalf("%+v, %v", inc, err)
		}
	})
}

// Rule S6: a failed sync ends the whole directory, and the controller hears
// of it.
func TestAFailedSyncEndsTheDirectory(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 2, nil)
		e.cluster.create(2, "cache", 1, map[string]string{"durability": "memory"})
		e.mustProduce("flights", 0, "a")
		e.mustProduce("flights", 1, "b")
		e.mustProduce("cache", 0, "c")
		e.fs.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*.log"})
		if _, err := e.produce("flights", 0, "lost?"); !errors.Is(err, partition.ErrUnknownOutcome) {
			t.Fatalf("after a failed sync: %v", err)
		}
		synctest.Wait()
		for _, topic := range []string{"flights", "cache"} {
			if _, err := e.produce(topic, 0, "refused"); err == nil {
				t.Fatalf("%s still takes records", topic)
			} else if failed := wantError[*partition.FailedError](t, err); failed.Cause == nil {
				t.Fatal("without a reason")
			}
		}
		last := e.cluster.beats[len(e.cluster.beats)-1]
		if len(last.GetFailedDirectoryIds()) != 1 || string(last.GetFailedDirectoryIds()[0]) != string(e.cluster.directory) || last.GetReady() {
			t.Fatalf("the controller was told %+v", last)
		}
		if e.b.Ready() || e.b.Failure() == nil {
			t.Fatal("still ready")
		}
		// A new topic cannot begin there either.
		e.cluster.create(3, "late", 1, nil)
		if _, err := e.produce("late", 0, "x"); err == nil {
			t.Fatal("a failed directory took a new log")
		}
		e.fs.Clear()
		_ = e.halt()
		// It is not clean: the next start must look.
		if inc, err := loadIncarnation(e.mem, dataDir, 1); err != nil || inc.Clean {
			t.Fatalf("%+v, %v", inc, err)
		}
	})
}
