package chaos

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/disk"
	"github.com/millstream-io/millstream/cmd/internal/netns"
)

// clients are this program, as a host of the network.
const clients = "clients"

// diskBytes is the size of the disk of a member; what is not used costs nothing.
const diskBytes = 1 << 30

// enterBoot runs a command for which the machine was booted when a file says.
// What is on disks is unmounted for it when it is unmounted outside.
var enterBoot = []string{
	"unshare", "--mount", "--propagation", "slave", "sh", "-c", `mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`,
}

// rig is what members live on, as far as the machine lets it: a network
// namespace for each, and a disk.
type rig struct {
	dir     string         // of the cluster
	network *netns.Network // nil: all are on loopback
	shelf   *disk.Shelf    // nil: all data are on the same disk
	disks   map[string]*disk.Disk
}

// openRig makes what the faults need, and as much as there can be if none are
// named: then it names them.
func openRig(o *Options, dir string) (*rig, error) {
	g := &rig{dir: dir, disks: map[string]*disk.Disk{}}
	var network, disks bool // whether a fault needs it
	var why error           // there is no network, or there are no disks
	for _, name := range o.Faults {
		network = network || menu[name].network
		disks = disks || menu[name].disk
	}
	var err error
	if g.network, err = netns.Open(clients); err != nil {
		g.network = nil
		if network {
			return nil, fmt.Errorf("partitions cannot be made: %w", err)
		}
		why = err
	}
	if disks || o.Faults == nil {
		if g.shelf, err = disk.Open(dir); err != nil {
			g.shelf = nil
			if disks {
				return nil, errors.Join(fmt.Errorf("disks cannot be broken: %w", err), g.close())
			}
			why = errors.Join(why, err)
		}
	}
	if why != nil {
		_, _ = fmt.Fprintf(o.Out, "less is broken than could be: %v\n", why)
	}
	if o.Faults == nil {
		o.Faults = Defaults(g.network != nil, g.shelf != nil)
	}
	return g, nil
}

// close removes it all.
// REQUIRES: no member runs.
func (g *rig) close() error {
	var errs []error
	if g.shelf != nil {
		errs = append(errs, g.shelf.Close())
	}
	if g.network != nil {
		errs = append(errs, g.network.Close())
	}
	return errors.Join(errs...)
}

// hosts is where the members live, for the cluster; nil: where it likes.
func (g *rig) hosts() func(member string) (cluster.Host, error) {
	if g.network == nil && g.shelf == nil {
		return nil
	}
	return func(member string) (h cluster.Host, err error) {
		if g.network != nil {
			at, err := g.network.Add(member)
			if err != nil {
				return h, err
			}
			h.Addr, h.Command = at.Addr, at.Command()
		}
		if g.shelf != nil {
			if g.disks[member], err = g.shelf.Make(member, diskBytes); err != nil {
				return h, err
			}
			h.Command = append(append(h.Command, enterBoot...), g.bootFile(member))
		}
		return h, g.boot(member)
	}
}

func (g *rig) bootFile(member string) string { return filepath.Join(g.dir, member+".boot") }

// boot has a member believe, from its next start, that its machine was booted
// again.
func (g *rig) boot(member string) error {
	if g.shelf == nil {
		return nil
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	text := fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	return os.WriteFile(g.bootFile(member), []byte(text), 0o644)
}

// heal mends the network, gives room back and lets disks go on.
func (g *rig) heal() error {
	var errs []error
	if g.network != nil {
		errs = append(errs, g.network.Heal())
	}
	for _, d := range g.disks {
		errs = append(errs, d.Thaw(), d.Free())
	}
	return errors.Join(errs...)
}
