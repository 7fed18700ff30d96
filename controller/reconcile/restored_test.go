package reconcile_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/backup"
	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/reconcile"
)

// backedUp returns a backup of what the store holds.
func backedUp(t *testing.T, kv *controllertest.MemStore) *backup.Backup {
	t.Helper()
	var file bytes.Buffer
	err := backup.Write(t.Context(), kv, time.Now(), "", func(piece []byte) error {
		_, err := file.Write(piece)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := backup.Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// restoredAs starts a controller of the cluster of a backup, restored.
func restoredAs(t *testing.T, b *backup.Backup, generation uint32) *controller {
	t.Helper()
	r, err := b.Restore(generation)
	if err != nil {
		t.Fatal(err)
	}
	return active(t, controllertest.NewRestoredStore(r))
}

// comeTo registers a broker that was of generation 1 with a controller of the
// restored cluster, and unfences it.
func comeTo(t *testing.T, c *controller, b *controllertest.Broker) *controllertest.Broker {
	t.Helper()
	n := reach(b, c)
	var cluster *controllerv1.ClusterRecord
	c.img.Read(func(v *image.View) { cluster = v.Cluster.Record })
	resp, err := n.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) {
		r.ClusterId, r.ClusterGeneration = cluster.GetClusterId(), 1
	})
	if err != nil {
		t.Fatal(err)
	}
	if !resp.GetEligible() || resp.GetCluster().GetGeneration() != cluster.GetGeneration() || resp.GetBrokerEpoch() <= b.Epoch {
		t.Errorf("broker %d is %v", b.ID, resp)
	}
	beat(t, n)
	return n
}

// lacks is a heartbeat that says that a broker has no log of a partition.
func (c *controller) lacks(p *controllerv1.PartitionRecord) func(*controllerv1.HeartbeatRequest) {
	return func(r *controllerv1.HeartbeatRequest) {
		r.Revision = c.img.Revision()
		r.RecoveredLogs = []*controllerv1.RecoveredLog{{TopicId: p.GetTopicId(), Partition: p.GetPartition(), Absent: true}}
	}
}

// led fails the test unless that broker leads, or nobody does.
func (c *controller) led(leader int32) *controllerv1.PartitionRecord {
	c.t.Helper()
	p := c.partition("orders", 0)
	if p.GetLeader() != leader || (leader < 0) != p.GetFromBackup() {
		c.t.Fatalf("the partition is %v, and should be led by %d", p, leader)
	}
	return p
}

// waits fails the test unless the partition waits for those brokers.
func (c *controller) waits(brokers ...int32) {
	c.t.Helper()
	c.led(-1)
	off, err := c.OfflinePartitions(c.t.Context())
	if err != nil || len(off) != 1 || !slices.Equal(off[0].Awaited, brokers) {
		c.t.Fatalf("offline are %v, %v; awaited should be %v", off, err, brokers)
	}
}

// restoring is a cluster of brokers with a topic of one partition on the first
// three, of which a backup was made.
func restoring(t *testing.T, kv *controllertest.MemStore, brokers int32) (bs []*controllertest.Broker, b *backup.Backup) {
	t.Helper()
	c := active(t, kv)
	bs = c.brokers(3)
	r := ask("orders", 1, "")
	r.ReplicationFactor, r.Config = 3, map[string]string{"durability": "disk", "min.insync.replicas": "2"}
	c.create(r)
	for id := int32(4); id <= brokers; id++ {
		bs = append(bs, c.broker(id))
	}
	return bs, backedUp(t, kv)
}

// Two of three are not enough, whatever min.insync.replicas is; nor are all
// replicas, while another broker may hold a log as well.
func TestARestoredPartitionIsLedByWhoHasTheMostOfAll(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		bs, b := restoring(t, kv, 4)
		c := restoredAs(t, b, 2)
		p := c.partition("orders", 0)
		c.waits(1, 2, 3, 4)
		for i := range bs {
			bs[i] = comeTo(t, c, bs[i])
		}
		beat(t, bs[0], c.ended(p, 9, 70))
		beat(t, bs[1], c.ended(p, 9, 90))
		c.waits(3, 4)
		beat(t, bs[2], c.ended(p, 1, 500))
		c.waits(4)
		if got := beat(t, bs[0]).GetWantedLogs(); len(got) != 0 {
			t.Errorf("of who has reported is wanted %v", got)
		}
		if got := beat(t, bs[3]).GetWantedLogs(); len(got) != 1 {
			t.Errorf("of who has not is wanted %v", got)
		}
		beat(t, bs[3], c.lacks(p))
		got := c.led(2)
		if got.GetLeaderEpoch() <= p.GetLeaderEpoch() || got.GetLeaderEpoch() <= 1<<16 || !slices.Equal(got.GetInSyncReplicas(), []int32{2}) || c.Losses() != 0 {
			t.Errorf("the partition is %v, losses %d", got, c.Losses())
		}
	})
}

// A leader that went further than any backup can know is not below the next.
func TestNobodyIsElectedBelowAnEpochThatIsReported(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		bs, b := restoring(t, kv, 3)
		c := restoredAs(t, b, 2)
		p := c.partition("orders", 0)
		for i := range bs {
			bs[i] = comeTo(t, c, bs[i])
			beat(t, bs[i], c.ended(p, 1<<20, int64(i)))
		}
		if got := c.led(3); got.GetLeaderEpoch() != 1<<20+1 {
			t.Errorf("the partition is %v", got)
		}
	})
}

// What was moved after the backup is found where it is, and who holds more than
// there are to be replicas lets go once the others are in sync.
func TestAPartitionThatWasMovedAfterTheBackupIsFound(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		bs, b := restoring(t, kv, 4)
		stranger := controllertest.NewBroker(nil, 5) // was added after the backup
		c := restoredAs(t, b, 2)
		p := c.partition("orders", 0)
		for i := range bs {
			bs[i] = comeTo(t, c, bs[i])
		}
		// It was on brokers 1, 4 and 5 at the end.
		beat(t, bs[0], c.ended(p, 7, 10))
		beat(t, bs[1], c.lacks(p))
		beat(t, bs[2], c.lacks(p))
		c.waits(4)
		resp := beat(t, bs[3], c.ended(p, 0, 0)) // it holds one, and has not opened it
		if len(resp.GetWantedLogs()) != 1 {
			t.Errorf("of who turned out to hold it is wanted %v", resp.GetWantedLogs())
		}
		p = c.led(-1)
		if !slices.Equal(p.GetReplicas(), []int32{1, 2, 3, 4}) || !slices.Contains(p.GetLastKnown(), 4) || !bytes.Equal(p.GetDirectoryIds()[3], bs[3].Directory) {
			t.Fatalf("the partition is %v", p)
		}
		c.waits(4)
		beat(t, bs[3], c.ended(p, 8, 15))
		c.waits() // two logs of three: there is one elsewhere
		bs = append(bs, comeTo(t, c, stranger))
		c.waits(5)
		beat(t, bs[4], c.ended(p, 0, 0))
		beat(t, bs[4], c.ended(p, 8, 20))
		got := c.led(5)
		if !slices.Equal(got.GetTargetReplicas(), []int32{5, 4, 1}) {
			t.Fatalf("the partition is %v", got)
		}
		_, err := within(c.AlterPartition, &controllerv1.AlterPartitionRequest{BrokerId: 5, BrokerEpoch: bs[4].Epoch, Proposals: []*controllerv1.InSyncProposal{{
			TopicId: p.GetTopicId(), LeaderEpoch: got.GetLeaderEpoch(), PartitionEpoch: got.GetPartitionEpoch(), InSyncReplicas: []*controllerv1.InSyncReplica{
				{BrokerId: 5, BrokerEpoch: bs[4].Epoch}, {BrokerId: 4, BrokerEpoch: bs[3].Epoch},
			},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		beat(t, bs[0])
		pass(session / 4)
		if got := c.led(5); !slices.Equal(got.GetReplicas(), []int32{5, 4, 1}) || len(got.GetTargetReplicas()) != 0 {
			t.Errorf("in the end the partition is %v", got)
		}
	})
}

// A broker whose disk was replaced after the backup holds its replicas on
// another directory.
func TestAReplicaOnAnotherDirectoryIsFound(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		bs, b := restoring(t, kv, 3)
		c := restoredAs(t, b, 2)
		p := c.partition("orders", 0)
		bs[1].Directory = bytes.Repeat([]byte{0xee}, 16)
		for i := range bs {
			bs[i] = comeTo(t, c, bs[i])
		}
		beat(t, bs[0], c.ended(p, 1, 10))
		beat(t, bs[2], c.ended(p, 1, 10))
		c.waits(2)
		beat(t, bs[1], c.ended(p, 0, 0))
		c.waits(2)
		beat(t, bs[1], c.ended(p, 1, 11))
		if got := c.led(2); !bytes.Equal(got.GetDirectoryIds()[1], bs[1].Directory) {
			t.Errorf("the partition is %v", got)
		}
	})
}

// Nobody invents an empty log: what is nowhere was deleted, or is on brokers
// that have not come.
func TestAPartitionOfWhichNoLogIsFoundWaitsForSomebody(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		bs, b := restoring(t, kv, 3)
		c := restoredAs(t, b, 2)
		p := c.partition("orders", 0)
		for i := range bs {
			bs[i] = comeTo(t, c, bs[i])
			beat(t, bs[i], c.lacks(p))
		}
		c.waits()
		resp, err := within(c.RecoverPartition, &controllerv1.RecoverPartitionRequest{Topic: "orders", AcceptLoss: true})
		if err != nil || resp.GetRecord().GetLeader() < 0 || len(resp.GetAwaitedBrokerIds()) != 0 {
			t.Fatalf("%v, %v", resp, err)
		}
		if got := c.led(resp.GetRecord().GetLeader()); got.GetAwaitedLogs() != 0 || c.Losses() != 1 {
			t.Errorf("the partition is %v, losses %d", got, c.Losses())
		}
	})
}

// A broker that will not come back is forgotten if it holds nothing, and nobody
// waits for it any more.
func TestABrokerThatIsRemovedIsNotAwaited(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		bs, b := restoring(t, kv, 4)
		c := restoredAs(t, b, 2)
		p := c.partition("orders", 0)
		for i := range bs[:3] {
			bs[i] = comeTo(t, c, bs[i])
			beat(t, bs[i], c.ended(p, 1, 10))
		}
		c.waits(4)
		if _, err := within(c.RemoveBroker, &controllerv1.RemoveBrokerRequest{BrokerId: 4}); err != nil {
			t.Fatal(err)
		}
		pass(session / 4)
		c.led(1)
	})
}

// A partition that is added may have been there before: its log is the one that
// is found.
func TestAPartitionThatIsAddedAgainHasItsLog(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		bs, b := restoring(t, kv, 4)
		c := restoredAs(t, b, 2)
		p := c.partition("orders", 0)
		for i := range bs[:3] {
			bs[i] = comeTo(t, c, bs[i])
			beat(t, bs[i], c.ended(p, 1, 10))
		}
		c.waits(4) // which stays away from here on
		if _, err := within(c.RemoveBroker, &controllerv1.RemoveBrokerRequest{BrokerId: 4}); err != nil {
			t.Fatal(err)
		}
		if _, err := within(c.CreatePartitions, &controllerv1.CreatePartitionsRequest{Topic: "orders", PartitionCount: 3}); err != nil {
			t.Fatal(err)
		}
		old, fresh := c.partition("orders", 1), c.partition("orders", 2)
		for i, broker := range bs[:3] {
			if i == 1 {
				beat(t, broker, c.ended(old, 3, 40))
			} else {
				beat(t, broker, c.lacks(old))
			}
			beat(t, broker, c.lacks(fresh))
		}
		if got := c.partition("orders", 1); got.GetLeader() != 2 || got.GetLeaderEpoch() <= 1<<16 || c.Losses() != 0 {
			t.Errorf("the one that was there is %v, losses %d", got, c.Losses())
		}
		if got := c.partition("orders", 2); got.GetLeader() < 0 || got.GetLeaderEpoch() <= 1<<16 {
			t.Errorf("the other is %v", got)
		}
	})
}

// Which generation a broker is of decides whether it is of this cluster.
func TestWhichBrokersARestoredClusterTakes(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		bs, b := restoring(t, kv, 3)
		came := comeTo(t, restoredAs(t, b, 3), bs[0])
		for name, s := range map[string]struct {
			generation uint32
			epoch      int64
			taken      bool
		}{
			"of the first generation":                      {1, bs[0].Epoch, true},
			"of one in between":                            {2, 1<<32 + bs[0].Epoch, true},
			"of a later one":                               {4, 3<<32 + bs[0].Epoch, false},
			"of a cluster restored as the same generation": {3, came.Epoch, false},
			"of this one":                                  {3, b.Revision + 2<<32, true},
		} {
			n := reach(bs[0], restoredAs(t, b, 3))
			_, err := n.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) {
				r.ClusterId, r.ClusterGeneration, r.PreviousBrokerEpoch = b.ClusterID, s.generation, s.epoch
			})
			if s.taken != (err == nil) || err != nil && !is[*reconcile.WrongClusterError](err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
