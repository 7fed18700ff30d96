package quorum

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// phone is a connection of a directory that a test counts.
type phone struct {
	grpc.ClientConnInterface
	address string
	of      *exchange
}

func (p *phone) Close() error {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	delete(p.of.open, p.address)
	return p.ClientConnInterface.(*grpc.ClientConn).Close()
}

// exchange connects to a trio by made-up addresses, c0:1 to c2:1; nobody is at
// others.
type exchange struct {
	*trio
	*Directory

	mu   sync.Mutex // guards open
	open map[string]bool
}

func newExchange(t *testing.T, active int32, seeds ...string) *exchange {
	t.Helper()
	e := &exchange{trio: newTrio(t, active), open: map[string]bool{}}
	d, err := NewDirectory(DirectoryOptions{Seeds: seeds, Dial: e.dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	e.Directory = d
	d.Quorum.o.Patience = 5 * time.Second
	return e
}

func (e *exchange) dial(address string) (Conn, error) {
	var i int
	if _, err := fmt.Sscanf(address, "c%d:1", &i); err != nil {
		return nil, err
	}
	conn, err := e.lines[i].Dial()
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open[address] {
		e.t.Errorf("%s is dialled twice", address)
	}
	e.open[address] = true
	return &phone{conn, address, e}, nil
}

func (e *exchange) wantOpen(want ...string) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	var open []string
	for a := range e.open {
		open = append(open, a)
	}
	slices.Sort(open)
	if !slices.Equal(open, want) {
		e.t.Errorf("connections are to %v, want %v", open, want)
	}
}

func (e *exchange) mustRemove(want int32) {
	e.t.Helper()
	resp, err := e.Directory.Client().DeleteTopic(e.t.Context(), &controllerv1.DeleteTopicRequest{Topic: "a"})
	if err != nil || int32(resp.GetRevision()) != want {
		e.t.Fatalf("controller %d answered, want %d: %v", resp.GetRevision(), want, err)
	}
}

// Identities of the trio are 11, 12 and 10, in order of their places.
func TestControllersThatAreNamedAreFollowed(t *testing.T) {
	e := newExchange(t, 11, "c0:1")
	e.mustRemove(11)
	e.Follow([]string{"c1:1", "c0:1"})
	e.wantOpen("c0:1", "c1:1")
	e.elect(12)
	e.mustRemove(12)
	// The first that was configured is none any more, and stays as a seed.
	e.Follow([]string{"c1:1", "c2:1"})
	e.wantOpen("c0:1", "c1:1", "c2:1")
	e.of(11).kill()
	e.elect(10)
	e.mustRemove(10)
	e.Follow([]string{"c2:1"})
	e.wantOpen("c0:1", "c2:1") // nobody is asked at c1 any more
	e.mustRemove(10)
	for range 3 { // watches pass over who is gone
		w, err := e.Directory.Client().WatchMetadata(t.Context(), &controllerv1.WatchMetadataRequest{})
		if err == nil {
			_, err = w.Recv()
		}
		if err != nil && status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	e.wantOpen()
	e.Follow([]string{"c1:1"}) // it is closed
	e.wantOpen()
}

func TestWhatIsNoListOfControllersChangesNothing(t *testing.T) {
	e := newExchange(t, 11, "c0:1", "c1:1")
	for _, said := range [][]string{nil, {}, {"c2"}, {":1"}, {"c2:"}, {""}} {
		e.Follow(said)
		e.wantOpen("c0:1", "c1:1")
	}
	e.Follow([]string{"nonsense", "c2:1", "c2:1"})
	e.wantOpen("c0:1", "c1:1", "c2:1")
	e.Follow([]string{"x:1"}) // cannot be dialled
	e.wantOpen("c0:1", "c1:1", "c2:1")
	e.mustRemove(11)
}

func TestWhatAControllerNamesIsBounded(t *testing.T) {
	e := newExchange(t, 11, "c0:1")
	var many []string
	for range 3 {
		many = append(many, "c0:1", "c1:1", "c2:1")
	}
	e.Follow(many)
	if n := len(*e.Directory.ring.Load()); n != 3 {
		t.Errorf("%d are asked", n)
	}
	d, err := NewDirectory(DirectoryOptions{Seeds: []string{"seed:1"}, Dial: func(string) (Conn, error) { return &phone{nil, "", e}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		many = append(many, fmt.Sprintf("x%d:1", i))
	}
	d.Follow(many)
	if n := len(*d.ring.Load()); n != mostNamed+1 {
		t.Errorf("%d are asked, want %d and the seed", n, mostNamed)
	}
}

// A call that comes to a controller just when that is none any more is made at
// another.
func TestACallToAControllerThatIsNoneAnyMoreIsMadeAtAnother(t *testing.T) {
	e := newExchange(t, 12, "c1:1")
	e.Follow([]string{"c0:1"})
	gone := e.seats["c0:1"]
	e.Directory.at.Store(gone)
	e.Follow([]string{"c2:1"})
	e.Directory.at.Store(gone) // as who has looked just before
	e.mustRemove(12)
}

// Where controllers were the last time is where they may be, behind those that
// are configured, until somebody names others.
func TestControllersOfTheLastTimeAreAsked(t *testing.T) {
	e := &exchange{trio: newTrio(t, 1), open: map[string]bool{}}
	d, err := NewDirectory(DirectoryOptions{Seeds: []string{"c0:1"}, Known: []string{"c2:1", "x", "c0:1"}, Dial: e.dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if ring := *d.ring.Load(); len(ring) != 2 || ring[0] != d.seats["c0:1"] || ring[1] != d.seats["c2:1"] {
		t.Errorf("asked are %v", d.seats)
	}
	e.wantOpen("c0:1", "c2:1")
	if named := d.Follow([]string{"c1:1", "c0:1"}); !slices.Equal(named, []string{"c0:1", "c1:1"}) {
		t.Errorf("named are %v", named)
	}
	e.wantOpen("c0:1", "c1:1")
	if named := d.Follow([]string{"c0:1", "c1:1"}); named != nil {
		t.Errorf("named anew are %v", named)
	}
}
