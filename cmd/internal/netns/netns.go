package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"

	"github.com/millstream-io/millstream/cmd/internal/owner"
)

const (
	// mostNetworks is how many there can be on a machine: each has a subnet of
	// 198.18.0.0/16, which is set aside for tests of networks (RFC 2544).
	mostNetworks = 250
	// mostHosts fit in the subnet, beside the machine.
	mostHosts = 200
	// device is what a host's interface is named in its namespace.
	device = "eth0"
	// nobody is the hardware address that no interface has.
	nobody = "02:6d:6c:ff:ff:ff"
)

// UnavailableError says why a machine can have no such network.
type UnavailableError struct {
	// Missing is what is missing.
	Missing string
}

// Error says it for people.
func (e *UnavailableError) Error() string {
	return "no network namespaces here: " + e.Missing
}

// Network is a bridge and the hosts on it. Its methods may be called from any
// goroutine.
type Network struct {
	number int

	mu    sync.Mutex // guards hosts
	hosts []*Host    // the first is the machine itself
}

// Host is a place on the network.
type Host struct {
	// Name is as it was added.
	Name string
	// Addr is its IP address.
	Addr string

	namespace string // "": the machine's own
	device    string // its interface, in its namespace
	hardware  string // its hardware address
}

// Open removes what dead runs have left, and makes a network on which there is
// but the machine, under a name. An *UnavailableError says that there can be
// none. Close is to be called, whatever happens later.
func Open(machine string) (*Network, error) {
	if runtime.GOOS != "linux" {
		return nil, &UnavailableError{"they are of Linux, and this is " + runtime.GOOS}
	}
	if uid := os.Geteuid(); uid != 0 {
		return nil, &UnavailableError{fmt.Sprintf("making them takes root, and this is user %d", uid)}
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, &UnavailableError{"the command ip (of the package iproute2) is not installed"}
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	n, err := claim()
	if err != nil {
		return nil, err
	}
	if err := n.build(machine); err != nil {
		return nil, errors.Join(&UnavailableError{err.Error()}, n.Close())
	}
	return n, nil
}

// claim makes the bridge of the first number that is free.
func claim() (*Network, error) {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for number := range mostNetworks {
		n := &Network{number: number}
		_, subnet, err := net.ParseCIDR(n.addr(0) + "/24")
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(taken, func(a net.Addr) bool {
			at, ok := a.(*net.IPNet)
			return ok && (subnet.Contains(at.IP) || at.Contains(subnet.IP))
		}) {
			continue
		}
		err = ip("link", "add", n.bridge(), "type", "bridge")
		if err == nil {
			return n, nil
		}
		if _, known := net.InterfaceByName(n.bridge()); known != nil {
			return nil, &UnavailableError{err.Error()} // it is not that another has it
		}
	}
	return nil, &UnavailableError{fmt.Sprintf("all of %d names are taken", mostNetworks)}
}

func (n *Network) bridge() string        { return fmt.Sprintf("%s%d", prefix, n.number) }
func (n *Network) addr(host int) string  { return fmt.Sprintf("198.18.%d.%d", n.number, host+1) }
func (n *Network) hw(host int) string    { return fmt.Sprintf("02:6d:6c:00:%02x:%02x", n.number, host+1) }
func (n *Network) outer(host int) string { return fmt.Sprintf("%s-%d", n.bridge(), host) }

// build says whose the bridge is, and makes the machine the first host.
func (n *Network) build(machine string) error {
	self, err := owner.Self()
	if err != nil {
		return err
	}
	n.hosts = []*Host{{Name: machine, Addr: n.addr(0), device: n.bridge(), hardware: n.hw(0)}}
	return script("",
		fmt.Sprintf("link set %s alias %q", n.bridge(), self.String()),
		fmt.Sprintf("link set %s address %s", n.bridge(), n.hw(0)),
		fmt.Sprintf("addr add %s/24 dev %s", n.addr(0), n.bridge()),
		fmt.Sprintf("link set %s up", n.bridge()),
	)
}

// Add makes a host: nothing is cut between it and the others.
func (n *Network) Add(name string) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := len(n.hosts)
	if i > mostHosts {
		return nil, fmt.Errorf("host %s: there are %d already, the most of a network", name, mostHosts)
	}
	h := &Host{Name: name, Addr: n.addr(i), namespace: n.bridge() + "-" + name, device: device, hardware: n.hw(i)}
	if err := ip("netns", "add", h.namespace); err != nil {
		return nil, err
	}
	if err := script("",
		fmt.Sprintf("link add %s type veth peer name %s netns %s", n.outer(i), device, h.namespace),
		fmt.Sprintf("link set %s master %s", n.outer(i), n.bridge()),
		fmt.Sprintf("link set %s up", n.outer(i)),
	); err != nil {
		return nil, err
	}
	if err := script(h.namespace,
		fmt.Sprintf("link set %s address %s", device, h.hardware),
		fmt.Sprintf("addr add %s/24 dev %s", h.Addr, device),
		fmt.Sprintf("link set %s up", device),
		"link set lo up",
	); err != nil {
		return nil, err
	}
	others := n.hosts
	n.hosts = append(slices.Clip(n.hosts), h)
	return h, errors.Join(join(others, []*Host{h}), join([]*Host{h}, others))
}

// Command is what the command line of a process begins with that is to be on
// the host. The process that is started is the one that was asked for.
func (h *Host) Command() []string {
	if h.namespace == "" {
		return nil
	}
	return []string{"ip", "netns", "exec", h.namespace}
}

// Close removes everything.
// REQUIRES: the processes on it have ended.
func (n *Network) Close() error { return remove(n.bridge()) }
