package partition

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestEveryCallOfAFollowerFails is TestEveryCallFails for a replica that
// follows: one of three, all in sync for the whole time, so that nothing may be
// acknowledged that is not on its disk.
func TestEveryCallOfAFollowerFails(t *testing.T) {
	calls, step := sweepOf()
	for i, k := range []struct {
		name string
		op   faultfs.Op
	}{
		{"write", faultfs.Write}, {"sync", faultfs.Sync | faultfs.SyncDir}, {"open", faultfs.Open | faultfs.Create},
		{"rename", faultfs.Rename}, {"read", faultfs.Read},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for n := i; n < calls; n += step {
				for _, errno := range []syscall.Errno{syscall.EIO, syscall.EROFS} {
					for _, times := range []int{1, -1} {
						rule := &faultfs.Rule{Op: k.op, Skip: n, Times: times, Err: errno, Bytes: n * 37 % 300}
						if err := sweepFollower(t, rule); err != nil {
							t.Fatalf("%v in call %d, %d times: %v", errno, n, times, err)
						}
					}
				}
			}
		})
	}
}

func sweepFollower(t *testing.T, rule *faultfs.Rule) error {
	t.Helper()
	s := &sweep{rule: rule, size: 1300, follows: true}
	s.ledger.acked = map[record.Offset]string{}
	synctest.Test(t, func(t *testing.T) {
		g := &trio{t: t, durability: replica.Disk, lines: map[*env]*line{}}
		for id := range 3 {
			e := newEnv(t)
			e.self, e.config = replica.ID(id+1), commitlog.Config{SegmentBytes: 3 * int64(s.size)}
			if id == 2 {
				s.env = e
				s.unsynced.Store(-1)
				s.strict = &strictFS{FS: e.fs, sweep: s}
				e.openOn(s.strict)
			} else {
				e.openOn(e.fs)
			}
			g.all = append(g.all, e)
		}
		s.fs.Add(rule)
		s.playBehind(g)
		s.left = s.mem.Clone()
		for _, l := range g.lines {
			l.end()
		}
		for _, e := range g.all {
			err := e.p.Close()
			if e.flusher.running.Wait(); e == s.env {
				s.understand("close", err)
			}
		}
	})
	if err := errors.Join(s.wrong...); err != nil {
		return err
	}
	for i, disk := range []*memfs.FS{s.left.Clone(), s.mem, s.left.Crash(memfs.LoseUnsynced()), s.left.Crash(memfs.KeepRandom(uint64(rule.Skip)))} {
		if err := s.restart(t, disk, i > 1); err != nil {
			return fmt.Errorf("restart %d: %w", i, err)
		}
	}
	return nil
}

// playBehind appends at the leaders, which take turns, until the fault has
// happened to the follower, and a while longer.
func (s *sweep) playBehind(g *trio) {
	const most = 3000
	round := 0
	for left := 10; left > 0 && round < most; round++ {
		if s.fs.Calls(s.rule.Op) > s.rule.Skip {
			left--
		}
		if round%4 == 0 {
			g.elect(g.all[round/4%2])
			s.epoch = g.epoch
			synctest.Wait()
		}
		for range 1 + round%3 {
			s.count++
			s.appendTo(g.leader.p, fmt.Sprintf("%d %s", s.count, strings.Repeat("x", s.size-s.count*137%1300)), 1+s.count%2)
		}
		synctest.Wait()
		g.tick()
		g.mend(s.env)
		synctest.Wait()
		if round%5 == 2 {
			pass(1500 * time.Millisecond)
			synctest.Wait()
		}
		s.look()
	}
	if round == most {
		s.fail("the story makes only %d such calls", s.fs.Calls(s.rule.Op))
	}
}
