package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// controllers returns the controllers as the cluster knows them.
func (s *story) controllers() []*pb.Controller {
	s.t.Helper()
	ctx := s.within()
	for {
		r, err := pb.NewClusterServiceClient(s.conn(s.Broker(1))).ListControllers(ctx, &pb.ListControllersRequest{})
		if err == nil {
			return r.GetControllers()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatal(err)
		}
	}
}

// another makes one more controller, which is not started. The brokers are not
// told of it; it is told of those that are not gone.
func (s *story) another(gone ...*Member) *Member {
	s.t.Helper()
	m, err := s.AddController()
	s.check(err)
	m.Join(slices.DeleteFunc(s.Controllers(), func(c *Member) bool { return slices.Contains(gone, c) }))
	return m
}

// replacing has another controller take the place of one, by the command line,
// which prints to out. It returns when the cluster waits for that to be started;
// ended says how the command ends.
func (s *story) replacing(out io.Writer, old, next *Member) (ended <-chan error) {
	s.t.Helper()
	return s.changing(out, "replace", fmt.Sprint(old.ID), place(next))
}

// place is a controller as commands name one that is added.
func place(m *Member) string { return fmt.Sprintf("%d=%s", m.ID, m.InternalAddr) }

// changing has a controller added by a command, which prints to out. It returns
// when the cluster waits for that to be started; ended says how the command ends.
func (s *story) changing(out io.Writer, args ...string) (ended <-chan error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.within(), s.Broker(1).cluster.o.Binary, append(append([]string{"cluster", "controllers"}, args...),
		"--yes", "-o", "json", "--addr", s.Broker(1).GRPCAddr)...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, s.t.Output(), environment()
	s.check(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for !slices.ContainsFunc(s.controllers(), func(c *pb.Controller) bool { return c.GetLearner() }) {
		select {
		case <-time.After(50 * time.Millisecond):
		case err := <-done:
			s.t.Fatalf("the command ended early: %v", err)
		}
	}
	return done
}

// leaves waits until a controller that was removed has ended by itself, in
// order, and has said why in its last line.
func (s *story) leaves(c *Member) {
	s.t.Helper()
	select {
	case <-c.Exited():
	case <-s.within().Done():
		s.t.Fatalf("%s runs still", c.Name())
	}
	log := strings.Split(strings.TrimSpace(c.tail()), "\n")
	if last := log[len(log)-1]; !strings.Contains(last, "it was taken out") || !strings.Contains(last, c.DataDir()) {
		s.t.Errorf("%s ended with\n%s", c.Name(), strings.Join(log, "\n"))
	}
}

// staysOut starts a controller that was removed on the directory that it has,
// where it finds out.
func (s *story) staysOut(c *Member) {
	s.t.Helper()
	s.check(c.Launch())
	s.leaves(c)
}

// The active controller is replaced by another, while the cluster works; one
// that is lost is removed; and nobody is removed without whom there would be no
// quorum.
func TestControllersAreReplacedAndRemoved(t *testing.T) {
	if testing.Short() {
		t.Skip("starts seven processes")
	}
	t.Parallel() // it waits, mostly
	s := open(t, t.TempDir(), 0)
	s.check(s.Start(s.within()))
	for i, c := range s.controllers() {
		if c.GetControllerId() != int32(i+1) || c.GetAddress() != s.Controller(i+1).InternalAddr || c.GetLearner() || !c.GetReachable() {
			t.Errorf("controller %d is %v", i+1, c)
		}
	}
	fourth := s.another()
	old, err := s.ActiveController(s.within())
	s.check(err)
	admin := func(args ...string) []string {
		return append(append([]string{"cluster", "controllers"}, args...), "--addr", s.Broker(1).GRPCAddr)
	}
	taken := fmt.Sprintf("%d=%s", 4, s.Controller(1).InternalAddr)
	if said, ok := s.command(admin("add", taken, "--dry-run")...); ok {
		t.Errorf("an address that is taken: %s", said)
	}
	if said, ok := s.command(admin("replace", fmt.Sprint(old.ID), place(fourth), "--dry-run")...); !ok || !strings.Contains(said, "TO-REMOVE") {
		t.Errorf("the dry run says %s", said)
	}
	if n := len(s.controllers()); n != 3 {
		t.Fatalf("a dry run made %d controllers", n)
	}
	var said strings.Builder
	ended := s.replacing(&said, old, fourth)
	if said, ok := s.command(admin("add", "5=127.0.0.1:1", "--dry-run")...); ok {
		t.Errorf("two at a time: %s", said)
	}
	s.check(fourth.Start(s.within()))
	s.check(<-ended)
	s.leaves(old)
	s.staysOut(old)
	var did struct {
		Controllers []struct {
			ID int `json:"controller_id"`
		} `json:"controllers"`
	}
	s.check(json.Unmarshal([]byte(said.String()), &did))
	if len(did.Controllers) != 3 || did.Controllers[2].ID != 4 {
		t.Errorf("it says %s", said.String())
	}
	s.create(s.Broker(2), "orders")

	// Of three one is lost: it can be removed, and no other.
	var lost, left *Member
	for _, c := range s.Controllers() {
		switch {
		case c == old || c == fourth:
		case lost == nil:
			lost = c
		default:
			left = c
		}
	}
	lost.Kill()
	if said, ok := s.command(admin("remove", fmt.Sprint(left.ID), "--yes")...); ok {
		t.Errorf("one was removed without whom there is no quorum: %s", said)
	}
	if said, ok := s.command(admin("remove", fmt.Sprint(lost.ID), "--yes")...); !ok {
		t.Errorf("one that is lost was not removed: %s", said)
	}
	if list := s.controllers(); len(list) != 2 || slices.ContainsFunc(list, func(c *pb.Controller) bool { return !c.GetReachable() || c.GetLearner() }) {
		t.Errorf("left are %v", list)
	}
	s.staysOut(lost)
	s.create(s.Broker(3), "events")
	for _, b := range s.Brokers() {
		s.check(b.Stop(s.within()))
	}
}

// One controller after the other is replaced, until none is left that the
// brokers were started with. They go on, without a restart, and after one.
func TestBrokersFollowControllersThatTheyWereNotToldOf(t *testing.T) {
	if testing.Short() {
		t.Skip("starts nine processes")
	}
	t.Parallel() // it waits, mostly
	s := open(t, t.TempDir(), 0)
	s.check(s.Start(s.within()))
	s.create(s.Broker(1), "before")
	configured, args := s.Controllers(), slices.Clone(s.Broker(2).args)
	for i, old := range configured {
		next := s.another(configured[:i]...)
		ended := s.replacing(t.Output(), old, next)
		s.check(next.Start(s.within()))
		s.check(<-ended)
		s.leaves(old)
		s.create(s.Broker(1+i%3), fmt.Sprint("after", i))
	}
	for _, c := range s.controllers() {
		if c.GetControllerId() <= int32(len(configured)) || !c.GetReachable() {
			t.Errorf("left is %v", c)
		}
	}
	for _, b := range s.Brokers() {
		s.create(b, fmt.Sprint("by", b.ID))
		select {
		case <-b.Exited():
			t.Errorf("%s has ended", b.Name())
		default:
		}
	}
	// One that is started again comes back too, though nobody is left at the
	// addresses that it is told.
	back := s.Broker(2)
	back.Kill()
	back.args = args // the cluster has told it of the others since
	s.check(back.Start(s.within()))
	s.create(back, "afterwards")
	for _, b := range s.Brokers() {
		s.check(b.Stop(s.within()))
	}
}
