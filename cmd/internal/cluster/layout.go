package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/google/renameio/v2"

	"github.com/millstream-io/millstream/server/ports"
)

const (
	loopback   = "127.0.0.1"
	layoutFile = "cluster.json"

	// Distances from the first port. Members of a kind are portStep apart, so
	// there are no more than mostMembers of a kind.
	portStep       = 10
	mostMembers    = 10
	httpPort       = 1
	internalPort   = 100
	controllerPort = 200
	quorumPort     = 201
	statusPort     = 202
	lastPort       = statusPort + portStep*(mostMembers-1)
	// hostPort is the first port where each member has an address of its own.
	hostPort = 9650
)

// layout is where the members of a cluster listen, as DIR/cluster.json has it.
type layout struct {
	// Port is the first; 0: they are such as were free.
	Port        int               `json:"port"`
	Controllers []controllerPorts `json:"controllers"`
	Brokers     []brokerPorts     `json:"brokers"`
}

// controllerPorts are the addresses of a controller.
type controllerPorts struct {
	Addr   string `json:"addr"`
	Quorum string `json:"quorum"`
	// HTTP is "" in the file of a directory that was made before controllers
	// had one.
	HTTP string `json:"http"`
}

// brokerPorts are the addresses of a broker.
type brokerPorts struct {
	GRPC     string `json:"grpc"`
	HTTP     string `json:"http"`
	Internal string `json:"internal"`
}

// addrOf returns the IP address of the member of a name.
type addrOf func(member string) (string, error)

// loadLayout reads the layout of a directory, or plans one if there is none.
func loadLayout(dir string, port, controllers, brokers int, addr addrOf) (*layout, error) {
	text, err := os.ReadFile(filepath.Join(dir, layoutFile))
	if errors.Is(err, fs.ErrNotExist) {
		l := &layout{Port: port}
		return l, l.plan(controllers, brokers, addr)
	}
	if err != nil {
		return nil, err
	}
	l := &layout{}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, layoutFile), err)
	}
	if port != 0 && port != l.Port {
		return nil, fmt.Errorf("the cluster in %s was made with port %d, not %d: its members know each other by their ports", dir, l.Port, port)
	}
	return l, l.complete(addr)
}

// complete gives controllers that have none an address for HTTP: nobody knows
// them by it.
func (l *layout) complete(addr addrOf) error {
	for i := range l.Controllers {
		if l.Controllers[i].HTTP != "" {
			continue
		}
		addrs, err := l.addresses(controllerKind, i, addr, statusPort)
		if err != nil {
			return fmt.Errorf("controller %d: %w", i+1, err)
		}
		l.Controllers[i].HTTP = addrs[0]
	}
	return nil
}

// plan gives members their ports.
func (l *layout) plan(controllers, brokers int, addr addrOf) error {
	if l.Port < 0 || l.Port > 65535-lastPort {
		return fmt.Errorf("port %d: must be 1 to %d, or 0 for any that are free", l.Port, 65535-lastPort)
	}
	for range controllers {
		if err := l.addController(addr); err != nil {
			return err
		}
	}
	for range brokers {
		if err := l.addBroker(addr); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) addController(addr addrOf) error {
	n := len(l.Controllers)
	addrs, err := l.addresses(controllerKind, n, addr, controllerPort, quorumPort, statusPort)
	if err != nil {
		return fmt.Errorf("controller %d: %w", n+1, err)
	}
	l.Controllers = append(l.Controllers, controllerPorts{Addr: addrs[0], Quorum: addrs[1], HTTP: addrs[2]})
	return nil
}

func (l *layout) addBroker(addr addrOf) error {
	n := len(l.Brokers)
	addrs, err := l.addresses(brokerKind, n, addr, 0, httpPort, internalPort)
	if err != nil {
		return fmt.Errorf("broker %d: %w", n+1, err)
	}
	l.Brokers = append(l.Brokers, brokerPorts{GRPC: addrs[0], HTTP: addrs[1], Internal: addrs[2]})
	return nil
}

// addresses returns those of the nth member of its kind, from 0, by their
// distances.
func (l *layout) addresses(kind string, n int, addr addrOf, distances ...int) ([]string, error) {
	if n >= mostMembers {
		return nil, fmt.Errorf("there are %d already, the most of a kind", n)
	}
	host, err := addr(nameOf(kind, n+1))
	if err != nil {
		return nil, err
	}
	first := l.Port
	if first == 0 && host != loopback {
		first = hostPort
	}
	var addrs []string
	for _, d := range distances {
		if first != 0 {
			addrs = append(addrs, net.JoinHostPort(host, strconv.Itoa(first+d+portStep*n)))
			continue
		}
		addr, err := l.free(addrs)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// free returns an address that nobody listens on now, and that is neither among
// those nor in the layout.
func (l *layout) free(but []string) (string, error) {
	taken := slices.Clone(but)
	for _, c := range l.Controllers {
		taken = append(taken, c.Addr, c.Quorum, c.HTTP)
	}
	for _, b := range l.Brokers {
		taken = append(taken, b.GRPC, b.HTTP, b.Internal)
	}
	return ports.Loopback(taken...)
}

// save writes the layout into its directory.
func (l *layout) save(dir string) error {
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, layoutFile), append(text, '\n'), 0o644)
}
