package reconcile_test

import (
	"slices"
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
)

const (
	well     = controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED
	slowDisk = controllerv1.Impairment_IMPAIRMENT_SLOW_DISK
	diskFull = controllerv1.Impairment_IMPAIRMENT_DISK_FULL
)

// finding has a broker say what is the matter with its disk, and how long that
// takes.
func finding(i controllerv1.Impairment, delay time.Duration) func(*controllerv1.HeartbeatRequest) {
	return func(r *controllerv1.HeartbeatRequest) { r.Impairment, r.DiskDelayUs = i, uint64(delay.Microseconds()) }
}

// tell has brokers say how their disks are, and the controller do what follows.
func tell(t *testing.T, bs []*controllertest.Broker, how map[int32]func(*controllerv1.HeartbeatRequest)) {
	t.Helper()
	for _, b := range bs {
		if f := how[b.ID]; f != nil {
			beat(t, b, f)
		} else {
			beat(t, b)
		}
	}
	pass(session / 8)
}

type disks = map[int32]func(*controllerv1.HeartbeatRequest)

// A leader whose disk is full is asked to hand over. Nobody waits for its
// replica then, until the disk is well again.
func TestABrokerWithAFullDiskIsLedAwayFrom(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "2")
		sick, others := leads(p, bs)
		how := disks{sick.ID: finding(diskFull, 0)}
		tell(t, bs, how)
		p = c.partition("orders", 0)
		if c.record(sick.ID).GetImpairment() != diskFull || p.GetLeader() != sick.ID || p.Successor == nil || p.GetSuccessor() != others[0].ID {
			t.Fatalf("%v; the partition is %v", c.record(sick.ID), p)
		}
		if res := c.propose(sick, handingOver(p)); res.GetOutcome() != altered {
			t.Fatal(res)
		}
		p = c.partition("orders", 0)
		leader, _ := leads(p, bs)
		if leader != others[0] || len(p.GetInSyncReplicas()) != 2 || slices.Contains(p.GetInSyncReplicas(), sick.ID) || p.Successor != nil {
			t.Fatalf("handed over, the partition is %v", p)
		}
		res := c.propose(leader, proposal(p, bs...))
		if res.GetIneligibility() != controllerv1.Ineligibility_INELIGIBILITY_IMPAIRED || res.GetIneligibleBrokerId() != sick.ID {
			t.Errorf("in sync again on a full disk: %v", res)
		}
		// Without another it is better than nothing.
		if res = c.propose(leader, proposal(p, leader)); res.GetOutcome() != altered {
			t.Fatal(res)
		}
		if res = c.propose(leader, proposal(res.GetRecord(), leader, sick)); res.GetOutcome() != altered || len(res.GetRecord().GetInSyncReplicas()) != 2 {
			t.Fatalf("two of three in sync, one on a full disk: %v", res)
		}
		if res = c.propose(leader, proposal(res.GetRecord(), bs...)); res.GetOutcome() != altered || slices.Contains(res.GetRecord().GetInSyncReplicas(), sick.ID) {
			t.Fatalf("with a third in sync: %v", res)
		}
		if _, err := within(c.ElectPreferredLeaders, &controllerv1.ElectPreferredLeadersRequest{}); err != nil {
			t.Fatal(err)
		}
		if p = c.partition("orders", 0); p.GetLeader() == sick.ID || p.Successor != nil {
			t.Errorf("where leaders are preferred: %v", p)
		}
		tell(t, bs, nil)
		p = c.partition("orders", 0)
		if res = c.propose(leader, proposal(p, bs...)); c.record(sick.ID).GetImpairment() != well || res.GetOutcome() != altered || len(res.GetRecord().GetInSyncReplicas()) != 3 {
			t.Errorf("on a disk that is well again: %v", res)
		}
	})
}

// A leader whose disk keeps it from handing over is not waited for, and is not
// asked for what else it leads.
func TestABrokerThatIsStuckIsFollowed(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		const partitions = 600 // of which it leads more than are asked for at a time
		c := active(t, kv)
		bs := c.brokers(3)
		r := ask("orders", partitions, "")
		r.ReplicationFactor, r.Config = 3, map[string]string{"min.insync.replicas": "2"}
		c.create(r)
		how := disks{1: finding(slowDisk, 5*time.Second)}
		led := func() (n int) {
			for i := range partitions {
				if c.partition("orders", i).GetLeader() == 1 {
					n++
				}
			}
			return n
		}
		if led() < 150 {
			t.Fatalf("it leads %d", led())
		}
		begun := time.Now()
		for led() > 0 {
			if time.Since(begun) > 4*time.Second {
				t.Fatalf("after %v it leads %d", time.Since(begun), led())
			}
			for _, b := range bs {
				if f := how[b.ID]; f != nil {
					beat(t, b, f)
				} else {
					beat(t, b, finding(well, 2*time.Millisecond))
				}
			}
			pass(100 * time.Millisecond)
		}
		for i := range partitions {
			if p := c.partition("orders", i); len(p.GetInSyncReplicas()) != 2 || slices.Contains(p.GetInSyncReplicas(), 1) || p.Successor != nil {
				t.Fatalf("a partition is %v", p)
			}
		}
	})
}

// A disk is slow only beside those of others, and stays that for a while when the
// others become as slow.
func TestADiskIsSlowBesideOthers(t *testing.T) {
	const ms = time.Millisecond
	for name, s := range map[string]struct {
		delays []time.Duration
		slow   []int32
	}{
		"one of three":       {[]time.Duration{300 * ms, 5 * ms, 90 * ms}, []int32{1}},
		"a little slower":    {[]time.Duration{300 * ms, 5 * ms, 110 * ms}, nil},
		"all":                {[]time.Duration{300 * ms, 200 * ms, 400 * ms}, nil},
		"two of three":       {[]time.Duration{300 * ms, 300 * ms, ms}, nil},
		"two of five":        {[]time.Duration{300 * ms, 300 * ms, ms, ms, ms}, []int32{1, 2}},
		"three of five":      {[]time.Duration{300 * ms, 300 * ms, 300 * ms, ms, ms}, nil},
		"alone":              {[]time.Duration{300 * ms}, nil},
		"one of two":         {[]time.Duration{300 * ms, ms}, []int32{1}},
		"beside an idle one": {[]time.Duration{300 * ms, 0}, []int32{1}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, kv *controllertest.MemStore) {
				c := active(t, kv)
				bs := c.brokers(int32(len(s.delays)))
				how := disks{}
				for i, d := range s.delays {
					is := well
					if d >= 150*ms {
						is = slowDisk
					}
					how[int32(i)+1] = finding(is, d)
				}
				tell(t, bs, how)
				tell(t, bs, how) // by now all have been heard
				for _, b := range bs {
					if got := c.record(b.ID).GetImpairment() != well; got != slices.Contains(s.slow, b.ID) {
						t.Errorf("broker %d is impaired: %t", b.ID, got)
					}
				}
				for id := range how { // the others become as slow
					how[id] = finding(slowDisk, 400*ms)
				}
				tell(t, bs, how)
				for _, id := range s.slow {
					if c.record(id).GetImpairment() != slowDisk {
						t.Errorf("broker %d is well as soon as others are slow too", id)
					}
				}
				for range 31 {
					tell(t, bs, how)
				}
				for _, id := range s.slow {
					if c.record(id).GetImpairment() != well {
						t.Errorf("broker %d is impaired when all have been slow for long", id)
					}
				}
			})
		})
	}
}

// Nobody is led away from where nobody is better, and whoever can leads before
// nobody does.
func TestWhereAllAreImpairedNobodyMoves(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "2")
		leader, others := leads(p, bs)
		tell(t, bs, disks{1: finding(diskFull, 0), 2: finding(diskFull, 0), 3: finding(diskFull, 0)})
		for range 10 {
			tell(t, bs, disks{1: finding(diskFull, 0), 2: finding(diskFull, 0), 3: finding(diskFull, 0)})
		}
		now := c.partition("orders", 0)
		if now.GetLeader() != leader.ID || now.GetLeaderEpoch() != p.GetLeaderEpoch() || now.Successor != nil || len(now.GetInSyncReplicas()) != 3 {
			t.Fatalf("the partition is %v", now)
		}
		// The leader is about to stop: any other will do.
		beat(t, leader, stopping, finding(diskFull, 0))
		if now = c.partition("orders", 0); now.Successor == nil || now.GetSuccessor() != others[0].ID {
			t.Fatalf("with a leader that stops the partition is %v", now)
		}
		if res := c.propose(leader, handingOver(now)); res.GetOutcome() != altered || res.GetRecord().GetLeader() != others[0].ID {
			t.Fatal(res)
		}
		for range 12 { // it is silent
			pass(session / 8)
			beat(t, others[0], finding(diskFull, 0))
			beat(t, others[1], finding(diskFull, 0))
		}
		if !c.record(leader.ID).GetFenced() {
			t.Fatal("who is silent is not fenced")
		}
		if now = c.partition("orders", 0); now.GetLeader() != others[0].ID {
			t.Errorf("without it the partition is %v", now)
		}
	})
}

// A topic that is made meanwhile is led by others, and a controller that takes
// over knows without being told.
func TestAnImpairedBrokerLeadsNothingNew(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		how := disks{2: finding(diskFull, 0)}
		tell(t, bs, how)
		r := ask("orders", 12, "")
		r.ReplicationFactor = 3
		c.create(r)
		first := 0
		for i := range 12 {
			p := c.partition("orders", i)
			if p.GetReplicas()[0] == 2 {
				first++
			}
			if p.GetLeader() == 2 || p.GetLeaderEpoch() != 1 {
				t.Errorf("a partition is made as %v", p)
			}
		}
		if first == 0 {
			t.Fatal("it is never the first of the replicas")
		}
		next := start(t, kv, 2, 0)
		c.leader.Set(1, false)
		next.leader.Set(2, true)
		select {
		case <-next.Ready():
		case <-time.After(patience):
			t.Fatal("no controller is active")
		}
		pass(session / 4) // in which nobody is heard
		if got := next.record(2).GetImpairment(); got != diskFull {
			t.Errorf("the next controller takes it for %v", got)
		}
	})
}
