package broker

import (
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// shaped is a partition that broker 1 holds with broker 2.
func shaped(leader, epochs int32, isr ...int32) func(*controllerv1.PartitionRecord) {
	return func(p *controllerv1.PartitionRecord) {
		p.Leader, p.LeaderEpoch, p.Replicas, p.InSyncReplicas, p.MinInsyncReplicas = leader, p.GetLeaderEpoch()+epochs, []int32{1, 2}, isr, 1
		p.DirectoryIds = append(p.GetDirectoryIds(), topicID(200))
		p.PartitionEpoch = epochs
	}
}

// torn has broker 1 acknowledge two records of flights-0, which it holds with
// another, and lose its power and the second record. It does not run then.
func (e *env) torn() {
	e.t.Helper()
	e.cluster.shape[1] = shaped(1, 0, 1)
	e.start()
	e.cluster.create(1, "flights", 1, nil)
	e.mustProduce("flights", 0, "a")
	e.mustProduce("flights", 0, "b")
	e.losePower(8)
	if err := storagetest.Flip(e.mem, e.segment(), e.size()-1, 0); err != nil {
		e.t.Fatal(err)
	}
	e.mem = e.mem.Crash(memfs.KeepUnsynced()) // that is what is on the disk
	e.fs = faultfs.Wrap(e.mem)
}

// losePower ends the broker with its machine, which starts again.
func (e *env) losePower(boot byte) {
	left := e.mem.Crash(memfs.LoseUnsynced())
	e.stop()
	e.t.Log("ended:", <-e.ended) // on a disk that is gone
	e.mem, e.fs = left, faultfs.Wrap(left)
	e.opts.BootID = func() ID16 { return ID16{boot} }
}

// kill ends the broker alone.
func (e *env) kill() {
	left := e.mem.Clone()
	e.stop()
	e.t.Log("ended:", <-e.ended) // on a disk that is gone
	e.mem, e.fs = left, faultfs.Wrap(left)
}

func (e *env) segment() string {
	return e.b.dir.logPath(e.flights().key) + "/00000000000000000000.log"
}

func (e *env) size() int64 {
	e.t.Helper()
	info, err := e.mem.Stat(e.segment())
	if err != nil {
		e.t.Fatal(err)
	}
	return info.Size()
}

func (e *env) flights() *localLog {
	e.b.logs.RLock()
	defer e.b.logs.RUnlock()
	for _, l := range e.b.logs.byKey {
		return l
	}
	return nil
}

// doubtsTold are the doubts in heartbeats that were answered.
func (e *env) doubtsTold() []*controllerv1.RecoveredLog { return e.doubtsOf(&e.cluster.beats) }

func (e *env) doubtsOf(beats *[]*controllerv1.HeartbeatRequest) (logs []*controllerv1.RecoveredLog) {
	e.cluster.mu.Lock()
	defer e.cluster.mu.Unlock()
	for _, r := range *beats {
		if doubtsIn(r) > 0 {
			logs = append(logs, r.GetRecoveredLogs()...)
		}
	}
	return logs
}

// settle lets what is on its way arrive.
func (e *env) settle() {
	synctest.Wait()
	pass(4 * time.Second)
	synctest.Wait()
}

// However a broker ends that has found a torn tail, and has not told of it, the
// next one tells.
func TestADoubtOutlivesWhoHasIt(t *testing.T) {
	for name, end := range map[string]func(e *env){
		"killed":                  func(e *env) { e.kill() },
		"power lost":              func(e *env) { e.losePower(9) },
		"stopped in order":        func(e *env) { _ = e.halt() },
		"killed, then power lost": func(e *env) { e.kill(); e.launch(e.fs); e.settle(); e.losePower(9) },
		"killed three times": func(e *env) {
			for range 2 {
				e.kill()
				e.launch(e.fs)
				e.settle()
			}
			e.kill()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *env) {
				e.torn()
				whole := e.size()
				e.cluster.deaf, e.cluster.distrusted = true, shaped(-1, 1)
				e.launch(e.fs)
				e.settle()
				if tried := e.doubtsOf(&e.cluster.unheard); len(tried) == 0 || tried[0].GetEnd() != 1 {
					t.Fatalf("nobody tries to tell: %v", tried)
				}
				if is := e.size(); is != whole {
					t.Errorf("the log has %d bytes of %d before anybody knows", is, whole)
				}
				end(e)
				e.cluster.mu.Lock()
				e.cluster.deaf = false
				e.cluster.mu.Unlock()
				e.launch(e.fs)
				e.settle()
				told := e.doubtsTold()
				if len(told) != 1 || told[0].GetEnd() != 1 || told[0].GetLastLeaderEpoch() != 1 || !told[0].GetDoubtful() {
					t.Fatalf("told is %v", told)
				}
				p := e.flights().opened.Load()
				if p == nil || p.State().End != 1 || e.size() >= whole {
					t.Fatalf("after that the log is not cut and opened, it has %d bytes of %d", e.size(), whole)
				}
				// Once it is known, nothing is left to tell, after whatever start.
				e.kill()
				e.start()
				e.settle()
				if told := e.doubtsTold(); len(told) != 1 {
					t.Errorf("told again: %v", told[1:])
				}
			})
		})
	}
}

// Until the controller knows, a log with a torn tail is not led though the
// metadata says so; then it is what the controller makes of it.
func TestATornLogIsNotLedBeforeTheControllerKnows(t *testing.T) {
	for name, c := range map[string]struct {
		then  func(*controllerv1.PartitionRecord)
		leads bool
	}{
		"nobody leads":   {shaped(-1, 1), false},
		"another leads":  {shaped(2, 1, 2), false},
		"this one leads": {shaped(1, 2, 1), true},
		"it is in sync":  {shaped(2, 1, 2, 1), false},
		"it is forgotten": {func(p *controllerv1.PartitionRecord) {
			p.Leader, p.Replicas, p.InSyncReplicas = 2, []int32{2}, []int32{2}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *env) {
				e.torn()
				whole := e.size()
				e.cluster.deaf, e.cluster.late, e.cluster.distrusted = true, true, c.then
				e.launch(e.fs)
				notLed := func(when string) {
					t.Helper()
					e.settle()
					_, err := e.produce("flights", 0, "c")
					if other := wantError[*NotLeaderError](t, err); other.Leader != -1 {
						t.Errorf("%s: %v", when, err)
					}
					topic := e.cluster.mirror.Current().TopicByName("flights")
					if _, err := e.b.ReplicaOf(topic, 0); err == nil || e.size() != whole {
						t.Errorf("%s: it is read, or cut: %v", when, err)
					}
				}
				notLed("before it is told")
				e.cluster.mu.Lock()
				e.cluster.deaf = false
				e.cluster.mu.Unlock()
				notLed("before the metadata has come")
				if len(e.doubtsTold()) != 1 {
					t.Fatalf("told is %v", e.doubtsTold())
				}
				e.cluster.mu.Lock()
				e.cluster.late = false
				e.cluster.publishLocked(false, e.cluster.partitions(1, e.cluster.topics[1])...)
				e.cluster.mu.Unlock()
				e.settle()
				if r, err := e.produce("flights", 0, "c"); c.leads != (err == nil) || c.leads && r.Base != 1 {
					t.Errorf("appended: %+v, %v", r, err)
				}
				if len(e.doubtsTold()) != 1 {
					t.Errorf("told is %v", e.doubtsTold())
				}
				if l := e.flights(); l != nil && (l.opened.Load() == nil || e.size() == whole && !c.leads) {
					t.Error("it is not opened, or not cut")
				}
			})
		})
	}
}

// The answer may come while what is wanted of the log is older still, and has it
// led.
func TestATornLogIsOpenedAsTheMetadataOfNowHasIt(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.torn()
		e.cluster.deaf = true
		e.launch(e.fs)
		e.settle()
		l := e.flights()
		old := l.want.Load()
		e.cluster.reshape(1, shaped(2, 1, 2))
		if l.want.Load() == old || old.part.Leader != 1 {
			t.Fatalf("wanted is %+v after %+v", l.want.Load().part, old.part)
		}
		l.want.Store(old)
		e.b.openTold(l)
		if p := l.opened.Load(); p == nil || p.State().Leading || p.State().Leader != 2 {
			t.Errorf("it is opened as %+v", p)
		}
	})
}

// Of a replica that nobody counts on, or that is the only one, there is nothing
// to tell.
func TestATailIsCutAtOnceWhereNobodyCountsOnIt(t *testing.T) {
	for name, shape := range map[string]func(*controllerv1.PartitionRecord){
		"out of sync": shaped(2, 1, 2),
		"alone":       func(p *controllerv1.PartitionRecord) { p.MinInsyncReplicas = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *env) {
				e.torn()
				whole := e.size()
				e.cluster.shape[1] = shape
				e.cluster.deaf = true
				e.launch(e.fs)
				e.settle()
				if p := e.flights().opened.Load(); p == nil || e.size() == whole {
					t.Fatal("it is not opened, or not cut")
				}
				if tried := e.doubtsOf(&e.cluster.unheard); len(tried) > 0 {
					t.Errorf("%v is told", tried)
				}
			})
		})
	}
}

// What becomes doubtful again, when it has been counted on since, is told again.
func TestALogCanBeDoubtfulAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.torn()
		e.cluster.distrusted = shaped(2, 1, 2)
		e.start()
		e.settle()
		e.cluster.reshape(1, shaped(2, 2, 2, 1))
		if got := e.doubtsTold(); len(got) != 1 {
			t.Fatalf("told is %v", got)
		}
		e.b.damaged(e.flights())
		e.settle()
		if got := e.doubtsTold(); len(got) != 2 || got[1].GetEnd() != 1 {
			t.Errorf("told is %v", got)
		}
	})
}

// Of a log that cannot be opened nobody says where it ends.
func TestALogThatCannotBeOpenedIsToldOfAsThat(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.torn()
		e.cluster.distrusted = shaped(-1, 1)
		e.fs.Add(&faultfs.Rule{Op: faultfs.ReadDir, Path: "*-0", Times: -1, Err: syscall.EIO})
		e.launch(e.fs)
		e.settle()
		got := e.doubtsTold()
		if len(got) != 1 || !got[0].GetUnreadable() || !got[0].GetDoubtful() || got[0].GetEnd() != 0 {
			t.Fatalf("told is %v", got)
		}
	})
}

// A torn log that cannot be cut, since its disk refuses, stays as it is; the
// doubt is told all the same.
func TestATailThatCannotBeCutIsToldOf(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.torn()
		whole := e.size()
		e.cluster.distrusted = shaped(-1, 1)
		e.fs.Add(&faultfs.Rule{Op: faultfs.Truncate, Path: "*.log", Times: -1})
		e.launch(e.fs)
		e.settle()
		if got := e.doubtsTold(); len(got) == 0 || got[0].GetEnd() != 1 || e.size() != whole {
			t.Fatalf("told is %v, %d bytes of %d", got, e.size(), whole)
		}
		e.fs.Clear()
		pass(reopenPauseMost)
		if p, err := e.flights().partition(); err != nil || p.State().End != record.Offset(1) {
			t.Errorf("it is not opened when the disk is well: %v", err)
		}
	})
}

// What was only in memory is not trusted after another boot. The broker says so
// until the controller has heard it, however often it is started in it.
func TestAnotherBootIsSaidUntilItIsHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.losePower(8)
		e.cluster.setDown(true) // it is not heard
		e.launch(e.fs)
		e.settle()
		e.kill()
		e.cluster.setDown(false) // it is heard, and cannot write that down
		e.fs.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*incarnation*"})
		e.launch(e.fs)
		select {
		case err := <-e.ended:
			if err == nil {
				t.Fatal("it ends in order without an incarnation record")
			}
		case <-time.After(time.Minute):
			t.Fatal("it serves without an incarnation record")
		}
		e.mem = e.mem.Clone()
		e.fs = faultfs.Wrap(e.mem)
		e.start()
		e.kill()
		e.start()
		var same []bool
		for _, r := range e.cluster.registered {
			same = append(same, r.GetSameBoot())
		}
		if !slices.Equal(same, []bool{false, false, false, true}) {
			t.Errorf("the registrations say of the boot %v", same)
		}
	})
}
