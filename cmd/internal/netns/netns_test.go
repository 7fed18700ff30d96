package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/owner"
)

// With addresses as arguments, this program counts what it gets on the first,
// and tells the second how much that is, over and over.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && !strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, count(os.Args[1], os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func count(at, report string) error {
	in, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	to, err := net.ResolveUDPAddr("udp", report)
	if err != nil {
		return err
	}
	buffer := make([]byte, 64)
	for got := 0; ; {
		if err := in.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			return err
		}
		if _, _, err := in.ReadFrom(buffer); err == nil {
			got++
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		_, _ = in.WriteTo([]byte(strconv.Itoa(got)), to) // nobody may listen yet
	}
}

// open makes a network, or skips the test where there can be none.
func open(t *testing.T) *Network {
	t.Helper()
	n, err := Open("machine")
	if _, ok := errors.AsType[*UnavailableError](err); ok {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A cut loses one direction and leaves the other; nothing of a network is left.
func TestACutLosesOneDirection(t *testing.T) {
	n := open(t)
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		left, err := output("netns", "list")
		if err != nil || strings.Contains(string(left), n.bridge()+"-") {
			t.Errorf("left are %q: %v", left, err)
		}
		if _, err := net.InterfaceByName(n.bridge()); err == nil {
			t.Error("the bridge is there still")
		}
	}()
	host, err := n.Add("b")
	if err != nil {
		t.Fatal(err)
	}
	in, err := net.ListenPacket("udp", net.JoinHostPort(n.addr(0), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	to := &net.UDPAddr{IP: net.ParseIP(host.Addr), Port: 9}
	line := append(host.Command(), self, to.String(), in.LocalAddr().String())
	counter := exec.Command(line[0], line[1:]...)
	counter.Stderr = t.Output()
	if err := counter.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = counter.Process.Kill(); _ = counter.Wait() }() // it does not end

	// exchange sends for a while and returns the first and last count that it
	// was told; -1: none.
	exchange := func(while time.Duration) (first, last int) {
		t.Helper()
		buffer := make([]byte, 64)
		first, last = -1, -1
		for end := time.Now().Add(while); time.Now().Before(end); {
			_, _ = in.WriteTo([]byte("ping"), to) // nobody may listen yet
			if err := in.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if l, _, err := in.ReadFrom(buffer); err == nil {
				if last, err = strconv.Atoi(string(buffer[:l])); err != nil {
					t.Fatal(err)
				}
				if first < 0 {
					first = last
				}
			}
		}
		return first, last
	}
	// flows waits until both directions work.
	flows := func() {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			if first, last := exchange(200 * time.Millisecond); first >= 0 && last > first {
				return
			}
		}
		t.Fatal("nothing gets through")
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	flows()
	check(n.Cut([]string{"machine"}, []string{"b", "machine"}))
	exchange(300 * time.Millisecond) // what was under way
	if first, last := exchange(300 * time.Millisecond); first < 0 || first != last {
		t.Errorf("with the way there cut, it counts %d to %d", first, last)
	}
	check(n.Heal())
	flows()
	check(n.Cut([]string{"b"}, []string{"machine"}))
	exchange(300 * time.Millisecond)
	if first, _ := exchange(300 * time.Millisecond); first >= 0 {
		t.Error("with the way back cut, it answers")
	}
	check(n.Heal())
	flows()

	// What is restored leaves alone what is cut otherwise.
	other, err := n.Add("c")
	check(err)
	all := []string{"machine", "c"}
	check(n.Cut(all, []string{"b", "c"}))
	check(n.Cut([]string{"b"}, all))
	check(n.Restore([]string{"machine"}, []string{"b"}))
	flows()
	knows := func(of string) string {
		t.Helper()
		out, err := output("neigh", "show", of, "dev", n.bridge())
		check(err)
		return string(out)
	}
	if !strings.Contains(knows(other.Addr), nobody) || strings.Contains(knows(host.Addr), nobody) {
		t.Errorf("the machine knows %q and %q", knows(other.Addr), knows(host.Addr))
	}
	if err := n.Cut([]string{"b"}, []string{"elsewhere"}); err == nil {
		t.Error("a host that is not there was cut off")
	}
}

// What the network of a dead process has left goes when the next is made; that
// of a living one stays.
func TestWhatTheDeadLeftIsRemoved(t *testing.T) {
	dead := open(t)
	if _, err := dead.Add("b"); err != nil {
		t.Fatal(err)
	}
	self, err := owner.Self()
	if err != nil {
		t.Fatal(err)
	}
	other := self.String() + "0" // of the same number, started at another time
	if err := script("", fmt.Sprintf("link set %s alias %q", dead.bridge(), other)); err != nil {
		t.Fatal(err)
	}
	living := open(t)
	defer func() { _ = living.Close() }()
	if out, err := output("netns", "list"); err != nil || strings.Contains(string(out), dead.bridge()+"-b") {
		t.Errorf("left are %q: %v", out, err)
	}
	next := open(t)
	defer func() { _ = next.Close() }()
	if _, err := net.InterfaceByName(living.bridge()); err != nil || next.number == living.number {
		t.Errorf("the living network %d is gone (%v), the next is %d", living.number, err, next.number)
	}
}
