package cli

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func (p *Program) clusterControllers() *cobra.Command {
	return group("controllers", "Look at the controllers, and add, remove or replace one",
		p.controllersList(), p.controllersAdd(), p.controllersRemove(), p.controllersReplace())
}

// controllerView is a controller as JSON and YAML show it.
type controllerView struct {
	ControllerID int32  `json:"controller_id"`
	Address      string `json:"address"`
	Active       bool   `json:"active"`
	Learner      bool   `json:"learner"`
	Reachable    bool   `json:"reachable"`
}

// standing says in a word how a controller is.
func (v controllerView) standing() string {
	switch {
	case v.Active:
		return "active"
	case v.ControllerID < 0:
		return "not started"
	case !v.Reachable:
		return "not reached"
	case v.Learner:
		return "being filled"
	default:
		return "standing by"
	}
}

// controllersView is a change of the controllers, or none, as JSON and YAML
// show it.
type controllersView struct {
	Controllers []controllerView `json:"controllers"`
	// Adds and Removes are what a change comes to.
	Adds    string `json:"adds"`
	Removes string `json:"removes"`
	DryRun  bool   `json:"dry_run"`
}

func newControllersView(list []*pb.Controller) controllersView {
	v := controllersView{Controllers: []controllerView{}}
	for _, c := range list {
		v.Controllers = append(v.Controllers, controllerView{c.GetControllerId(), c.GetAddress(), c.GetActive(), c.GetLearner(), c.GetReachable()})
	}
	return v
}

func (v controllersView) tables() []*table {
	t := &table{header: []string{"CONTROLLER", "ADDRESS", "STATE"}}
	for _, c := range v.Controllers {
		id := "-"
		if c.ControllerID >= 0 {
			id = strconv.Itoa(int(c.ControllerID))
		}
		t.add(id, c.Address, c.standing())
	}
	if !v.DryRun {
		return []*table{t}
	}
	change := &table{header: []string{"TO-ADD", "TO-REMOVE"}}
	change.add(nameOrDash(v.Adds), nameOrDash(v.Removes))
	return []*table{t, change}
}

func nameOrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (p *Program) controllersList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the controllers", Aliases: []string{"ls"}, Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			list, err := p.controllers(c)
			if err != nil {
				return err
			}
			v := newControllersView(list)
			return p.show(c, v.Controllers, v.tables()...)
		},
	}
}

func (p *Program) controllers(c *cobra.Command) ([]*pb.Controller, error) {
	r, err := call(p, c, cluster, pb.ClusterServiceClient.ListControllers, &pb.ListControllersRequest{})
	return r.GetControllers(), err
}

// newController reads ID=HOST:PORT.
func newController(c *cobra.Command, arg string) (*pb.AddControllerRequest, error) {
	id, address, _ := strings.Cut(arg, "=")
	n, err := strconv.ParseInt(id, 10, 32)
	if host, port, aerr := net.SplitHostPort(address); err != nil || n < 0 || aerr != nil || host == "" || port == "" {
		return nil, misuse(c, "%q is not ID=HOST:PORT", arg)
	}
	return &pb.AddControllerRequest{ControllerId: int32(n), Address: address}, nil
}

// oldController reads the identity or the address of a controller.
func oldController(c *cobra.Command, arg string) (*pb.RemoveControllerRequest, error) {
	if n, err := strconv.ParseInt(arg, 10, 32); err == nil && n >= 0 {
		return &pb.RemoveControllerRequest{ControllerId: int32(n)}, nil
	}
	if host, port, err := net.SplitHostPort(arg); err != nil || host == "" || port == "" {
		return nil, misuse(c, "CONTROLLER %q is neither a number from 0 nor HOST:PORT", arg)
	}
	return &pb.RemoveControllerRequest{Address: arg}, nil
}

const startNote = `It is started with --join, with a --peers that names
all of them, and on an empty --data-dir. It has no vote before it has
everything, and gets it then by itself. Brokers that run learn of it by
themselves. See docs/operations/cluster-admin.md.`

func (p *Program) controllersAdd() *cobra.Command {
	var agree consent
	var waits patienceFlags
	c := &cobra.Command{
		Use: "add ID=HOST:PORT", Short: "Make room for a controller",
		Long: `Make room for a controller that the others reach at that address, the one of
--peers. One is added at a time; with --wait the command waits for its vote.

` + startNote,
		Example: "  millstream cluster controllers add 4=10.0.0.4:9654 --yes --wait",
		Args:    takes("ID=HOST:PORT"),
		RunE: func(c *cobra.Command, args []string) error {
			add, err := newController(c, args[0])
			if err != nil {
				return err
			}
			if err := errors.Join(p.checkOutput(c), agree.check(c), waits.check(c)); err != nil {
				return err
			}
			plan, err := p.addController(c, add, true)
			if err != nil {
				return err
			}
			if ok, err := p.agreed(c, agree, plan, plan.tables()...); !ok {
				return err
			}
			did, err := p.addController(c, add, false)
			if err != nil {
				return err
			}
			if waits.wait {
				if did, err = p.awaitVote(c, waits, add); err != nil {
					return err
				}
			}
			return p.show(c, did, did.tables()...)
		},
	}
	agree.flags(c)
	waits.flags(c)
	return c
}

// addController adds one, or says that it can be, and says how it is started.
func (p *Program) addController(c *cobra.Command, add *pb.AddControllerRequest, dry bool) (controllersView, error) {
	add.ValidateOnly = dry
	r, err := call(p, c, cluster, pb.ClusterServiceClient.AddController, add)
	if err != nil {
		return controllersView{}, err
	}
	v := newControllersView(r.GetControllers())
	v.Adds, v.DryRun = fmt.Sprintf("%d=%s", add.GetControllerId(), add.GetAddress()), dry
	if !dry {
		var peers []string
		for _, m := range r.GetControllers() {
			id := m.GetControllerId()
			if m.GetAddress() == add.GetAddress() {
				id = add.GetControllerId()
			}
			peers = append(peers, fmt.Sprintf("%d=%s", id, m.GetAddress()))
		}
		p.done("start it now, on an empty --data-dir: millstream controller --id %d --join --peers %s …", add.GetControllerId(), strings.Join(peers, ","))
	}
	return v, nil
}

// awaitVote waits until a controller that was added has its vote.
func (p *Program) awaitVote(c *cobra.Command, w patienceFlags, add *pb.AddControllerRequest) (controllersView, error) {
	var list []*pb.Controller
	err := p.await(c, w, func() (int, string, error) {
		var err error
		if list, err = p.controllers(c); err != nil {
			return 0, "", err
		}
		for _, v := range newControllersView(list).Controllers {
			switch {
			case v.Address != add.GetAddress():
			case v.Learner:
				return 1, fmt.Sprintf("controller %d: %s", add.GetControllerId(), v.standing()), nil
			case v.ControllerID != add.GetControllerId():
				return 0, "", fmt.Errorf("at %s controller %d was started, not %d", v.Address, v.ControllerID, add.GetControllerId())
			default:
				return 0, fmt.Sprintf("controller %d has its vote", v.ControllerID), nil
			}
		}
		return 0, "", fmt.Errorf("controller %d was removed again", add.GetControllerId())
	})
	v := newControllersView(list)
	v.Adds = fmt.Sprintf("%d=%s", add.GetControllerId(), add.GetAddress())
	return v, err
}

func (p *Program) controllersRemove() *cobra.Command {
	var agree consent
	c := &cobra.Command{
		Use: "remove CONTROLLER", Short: "Take a controller out for good", Aliases: []string{"rm"},
		Long: `Take a controller out for good, by its identity or address. It is refused where
those that are left could not go on without one that is away. The process that
was removed ends by itself; its directory is of no use any more.`,
		Example: "  millstream cluster controllers remove 3 --yes",
		Args:    takes("CONTROLLER"),
		RunE: func(c *cobra.Command, args []string) error {
			remove, err := oldController(c, args[0])
			if err != nil {
				return err
			}
			if err := errors.Join(p.checkOutput(c), agree.check(c)); err != nil {
				return err
			}
			plan, err := p.removeController(c, remove, args[0], true)
			if err != nil {
				return err
			}
			if ok, err := p.agreed(c, agree, plan, plan.tables()...); !ok {
				return err
			}
			did, err := p.removeController(c, remove, args[0], false)
			if err != nil {
				return err
			}
			return p.show(c, did, did.tables()...)
		},
	}
	agree.flags(c)
	return c
}

func (p *Program) removeController(c *cobra.Command, remove *pb.RemoveControllerRequest, name string, dry bool) (controllersView, error) {
	remove.ValidateOnly = dry
	r, err := call(p, c, cluster, pb.ClusterServiceClient.RemoveController, remove)
	v := newControllersView(r.GetControllers())
	v.Removes, v.DryRun = name, dry
	return v, err
}

func (p *Program) controllersReplace() *cobra.Command {
	var agree consent
	waits := patienceFlags{wait: true}
	c := &cobra.Command{
		Use: "replace CONTROLLER ID=HOST:PORT", Short: "Have another controller take the place of one",
		Long: `Have another controller take the place of one, under another identity and at
another address. One that is reached is removed when the new one has its vote;
one that is lost is removed first. The command says how the new one is to be
started, and waits for it.

` + startNote,
		Example: "  millstream cluster controllers replace 3 4=10.0.0.4:9654 --yes",
		Args:    takes("CONTROLLER", "ID=HOST:PORT"),
		RunE: func(c *cobra.Command, args []string) error {
			remove, err := oldController(c, args[0])
			if err != nil {
				return err
			}
			add, err := newController(c, args[1])
			if err != nil {
				return err
			}
			if err := errors.Join(p.checkOutput(c), agree.check(c)); err != nil {
				return err
			}
			plan, lost, err := p.planReplace(c, remove, add, args[0])
			if err != nil {
				return err
			}
			if ok, err := p.agreed(c, agree, plan, plan.tables()...); !ok {
				return err
			}
			did, err := p.replace(c, waits, remove, add, args[0], lost)
			if err != nil {
				return err
			}
			did.Adds, did.Removes = plan.Adds, args[0]
			return p.show(c, did, did.tables()...)
		},
	}
	agree.flags(c)
	c.Flags().DurationVar(&waits.timeout, "timeout", defaultWait, "how long to wait at most for the new one; what was begun goes on all the same")
	waits.poll = defaultPoll
	return c
}

// planReplace says whether the one to be replaced is lost, and refuses what
// cannot be.
func (p *Program) planReplace(c *cobra.Command, remove *pb.RemoveControllerRequest, add *pb.AddControllerRequest, name string) (v controllersView, lost bool, err error) {
	list, err := p.controllers(c)
	if err != nil {
		return v, false, err
	}
	known := false
	for _, m := range list {
		if m.GetAddress() == add.GetAddress() || m.GetControllerId() == add.GetControllerId() {
			return v, false, fmt.Errorf("controller %d is one of them, at %s: remove it first, or name another identity and address", m.GetControllerId(), m.GetAddress())
		}
		if m.GetAddress() == remove.GetAddress() || remove.GetAddress() == "" && m.GetControllerId() == remove.GetControllerId() {
			known, lost = true, !m.GetReachable()
		}
	}
	v = newControllersView(list)
	v.Adds, v.Removes, v.DryRun = fmt.Sprintf("%d=%s", add.GetControllerId(), add.GetAddress()), name, true
	if lost || !known {
		_, err = p.removeController(c, remove, name, true) // which says that it is not known
	} else {
		_, err = p.addController(c, add, true)
	}
	return v, lost, err
}

func (p *Program) replace(c *cobra.Command, w patienceFlags, remove *pb.RemoveControllerRequest, add *pb.AddControllerRequest, name string, lost bool) (controllersView, error) {
	if lost {
		if _, err := p.removeController(c, remove, name, false); err != nil {
			return controllersView{}, err
		}
		p.done("controller %s is removed", name)
	}
	if _, err := p.addController(c, add, false); err != nil {
		return controllersView{}, err
	}
	v, err := p.awaitVote(c, w, add)
	if err != nil || lost {
		return v, err
	}
	return p.removeController(c, remove, name, false)
}
