package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/millstream-io/millstream/server/pki"
)

// Kinds of members.
const (
	brokerKind     = "broker"
	controllerKind = "controller"
)

// Flags whose values change when there are more controllers.
const (
	peersFlag       = "--peers"
	controllersFlag = "--controllers"
	joinFlag        = "--join"
)

// Options say what cluster it is. The zero value of a field stands for its
// default, where there is one.
type Options struct {
	// Binary is the program to run. Required.
	Binary string
	// Dir keeps everything; "": a temporary directory, which Close removes.
	Dir string
	// Port is the first; broker I serves clients on Port+10·(I−1) and HTTP on
	// the port after it, and brokers and controllers on 100 more. Controller I
	// serves brokers on Port+200+10·(I−1), its quorum on the port after it, and
	// HTTP on the next.
	// 0: any that are free.
	Port int
	// Controllers and Brokers are how many there are; 0: 3 of each. In a
	// directory that has a cluster, what it has counts.
	Controllers, Brokers int
	// BrokerArgs and ControllerArgs are further flags of each.
	BrokerArgs, ControllerArgs []string
	// Rack says where a broker stands; nil: nowhere.
	Rack func(broker int) string
	// Host says where the member of a name lives; nil: all live on loopback of
	// this machine. It is asked once for each.
	Host func(member string) (Host, error)
}

// Host is where a member lives.
type Host struct {
	// Addr is the IP address on which it listens. It has it for itself, so that
	// all ports are free.
	Addr string
	// Command is what its command line begins with. What that starts has to be
	// the member itself, and no parent of it.
	Command []string
}

// Cluster is controllers and brokers as processes. Its methods may be called
// from any goroutine.
type Cluster struct {
	// Dir is its directory.
	Dir string

	o         Options
	temporary bool
	authority *authority
	observer  *tls.Config
	http      *http.Client

	mu          sync.Mutex // guards what follows
	layout      *layout
	hosts       map[string]Host // by member
	controllers []*Member
	brokers     []*Member
}

// Open makes a cluster, or opens the one in the directory. It starts nothing.
// Close is to be called, whatever happens later.
func Open(o Options) (*Cluster, error) {
	if o.Binary == "" {
		return nil, errors.New("cluster: Binary is required")
	}
	binary, err := filepath.Abs(o.Binary)
	if err != nil {
		return nil, err
	}
	o.Binary = binary
	if o.Controllers == 0 {
		o.Controllers = 3
	}
	if o.Brokers == 0 {
		o.Brokers = 3
	}
	c := &Cluster{o: o, Dir: o.Dir, temporary: o.Dir == "", http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if c.temporary {
		if c.Dir, err = os.MkdirTemp("", "millstream-cluster-"); err != nil {
			return nil, err
		}
	}
	if err := c.build(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// build makes the directory, the authority and the members.
func (c *Cluster) build() error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	c.Dir = dir
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if c.authority, err = openAuthority(filepath.Join(c.Dir, "pki")); err != nil {
		return err
	}
	if c.observer, err = c.authority.observer(); err != nil {
		return err
	}
	if c.layout, err = loadLayout(c.Dir, c.o.Port, c.o.Controllers, c.o.Brokers, c.addrOf); err != nil {
		return err
	}
	if err := c.layout.save(c.Dir); err != nil {
		return err
	}
	for i := range c.layout.Controllers {
		if err := c.addController(i); err != nil {
			return err
		}
	}
	for i := range c.layout.Brokers {
		if err := c.addBroker(i); err != nil {
			return err
		}
	}
	return nil
}

// host returns where a member lives, which is decided once.
// REQUIRES: mu is held, or nobody else has the cluster yet.
func (c *Cluster) host(member string) (Host, error) {
	h, known := c.hosts[member]
	if known {
		return h, nil
	}
	h.Addr = loopback
	if c.o.Host != nil {
		var err error
		if h, err = c.o.Host(member); err != nil {
			return h, fmt.Errorf("host of %s: %w", member, err)
		}
	}
	if c.hosts == nil {
		c.hosts = map[string]Host{}
	}
	c.hosts[member] = h
	return h, nil
}

func (c *Cluster) addrOf(member string) (string, error) {
	h, err := c.host(member)
	return h.Addr, err
}

// addController makes the controller of a place in the layout a member.
func (c *Cluster) addController(i int) error {
	at := c.layout.Controllers[i]
	m := &Member{Kind: controllerKind, ID: i + 1, GRPCAddr: at.Addr, HTTPAddr: at.HTTP, InternalAddr: at.Quorum, cluster: c}
	var peers []string
	for j, p := range c.layout.Controllers {
		peers = append(peers, fmt.Sprintf("%d=%s", j+1, p.Quorum))
	}
	h, err := c.host(m.Name())
	if err != nil {
		return err
	}
	m.command = h.Command
	certs, err := c.authority.issue(pki.RoleController, m.ID, h.Addr)
	if err != nil {
		return err
	}
	m.args = []string{
		"controller", "--id", strconv.Itoa(m.ID), "--data-dir", m.DataDir(), "--addr", at.Addr, peersFlag, strings.Join(peers, ","),
		"--http-addr", at.HTTP,
	}
	if h.Addr != loopback {
		m.args = append(m.args, "--insecure") // metrics are asked for without TLS
	}
	m.args = append(append(m.args, certs...), c.o.ControllerArgs...)
	c.controllers = append(c.controllers, m)
	return nil
}

// addBroker makes the broker of a place in the layout a member.
func (c *Cluster) addBroker(i int) error {
	at := c.layout.Brokers[i]
	m := &Member{Kind: brokerKind, ID: i + 1, GRPCAddr: at.GRPC, HTTPAddr: at.HTTP, InternalAddr: at.Internal, cluster: c}
	var controllers []string
	for _, p := range c.layout.Controllers {
		controllers = append(controllers, p.Addr)
	}
	h, err := c.host(m.Name())
	if err != nil {
		return err
	}
	m.command = h.Command
	certs, err := c.authority.issue(pki.RoleBroker, m.ID, h.Addr)
	if err != nil {
		return err
	}
	m.args = []string{
		"broker", "--id", strconv.Itoa(m.ID), "--data-dir", m.DataDir(), "--grpc-addr", at.GRPC, "--http-addr", at.HTTP,
		"--internal-addr", at.Internal, "--advertised-addr", at.GRPC, controllersFlag, strings.Join(controllers, ","),
	}
	if h.Addr != loopback {
		m.args = append(m.args, "--insecure") // clients come without TLS
	}
	if c.o.Rack != nil {
		m.args = append(m.args, "--rack", c.o.Rack(m.ID))
	}
	m.args = append(append(m.args, certs...), c.o.BrokerArgs...)
	c.brokers = append(c.brokers, m)
	return nil
}

// AddBroker makes one more broker, which is not started.
func (c *Cluster) AddBroker() (*Member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.layout.addBroker(c.addrOf); err != nil {
		return nil, err
	}
	if err := c.layout.save(c.Dir); err != nil {
		return nil, err
	}
	if err := c.addBroker(len(c.layout.Brokers) - 1); err != nil {
		return nil, err
	}
	return c.brokers[len(c.brokers)-1], nil
}

// AddController makes one more controller, which is not started and of which
// the others have not been told: see [Member.Join]. Brokers that are started
// from now on know where it serves them.
func (c *Cluster) AddController() (*Member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.layout.addController(c.addrOf); err != nil {
		return nil, err
	}
	if err := c.layout.save(c.Dir); err != nil {
		return nil, err
	}
	if err := c.addController(len(c.layout.Controllers) - 1); err != nil {
		return nil, err
	}
	m := c.controllers[len(c.controllers)-1]
	for _, b := range c.brokers {
		i := slices.Index(b.args, controllersFlag)
		b.args[i+1] += "," + m.GRPCAddr
	}
	return m, nil
}

// Brokers returns the brokers by their number. The slice is the caller's.
func (c *Cluster) Brokers() []*Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Member(nil), c.brokers...)
}

// Controllers returns the controllers by their number. The slice is the
// caller's.
func (c *Cluster) Controllers() []*Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Member(nil), c.controllers...)
}

// Broker returns a broker by its number, from 1; nil: there is none.
func (c *Cluster) Broker(id int) *Member { return member(c.Brokers(), id) }

// Controller returns a controller by its number, from 1; nil: there is none.
func (c *Cluster) Controller(id int) *Member { return member(c.Controllers(), id) }

func member(ms []*Member, id int) *Member {
	if id < 1 || id > len(ms) {
		return nil
	}
	return ms[id-1]
}

// Start starts all members that do not run, and waits until all are ready. It
// starts none, and fails with *InUseError, if one was started by hand.
func (c *Cluster) Start(ctx context.Context) error {
	all := append(c.Controllers(), c.Brokers()...)
	for _, m := range all {
		if m.Running() {
			continue
		}
		if err := m.free(); err != nil {
			return err
		}
	}
	for _, m := range all {
		if m.Running() {
			continue
		}
		if err := m.Launch(); err != nil {
			return err
		}
	}
	// The first that fails is why the others wait in vain.
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range all {
		g.Go(func() error { return m.AwaitReady(ctx) })
	}
	return g.Wait()
}

// Stop stops all members in order: the brokers at once, as controllers must
// hear that they go, then the controllers one after the other, so that each
// finds another to lead the quorum.
func (c *Cluster) Stop(ctx context.Context) error {
	errs := []error{each(c.Brokers(), func(m *Member) error { return m.Stop(ctx) })}
	for _, m := range c.Controllers() {
		errs = append(errs, m.Stop(ctx))
	}
	return errors.Join(errs...)
}

// each does something with all members at once.
func each(ms []*Member, do func(*Member) error) error {
	errs := make([]error, len(ms))
	var g errgroup.Group
	for i, m := range ms {
		g.Go(func() error {
			errs[i] = do(m)
			return nil
		})
	}
	_ = g.Wait() // it returns none
	return errors.Join(errs...)
}

// Close kills what runs still, and removes a temporary directory.
func (c *Cluster) Close() error {
	for _, m := range append(c.Brokers(), c.Controllers()...) {
		m.Kill()
	}
	c.http.CloseIdleConnections()
	if c.temporary {
		return os.RemoveAll(c.Dir)
	}
	return nil
}
