package netns

import (
	"errors"
	"fmt"
)

// Cut loses everything that the hosts of the one list send those of the other,
// without a word. The other direction stays as it was. Hosts are named; a host
// reaches itself.
func (n *Network) Cut(from, to []string) error {
	senders, receivers, err := n.named(from, to)
	if err != nil {
		return err
	}
	return teach(senders, receivers, func(*Host) string { return nobody })
}

// Heal carries everything again.
func (n *Network) Heal() error {
	n.mu.Lock()
	all := n.hosts
	n.mu.Unlock()
	return join(all, all)
}

// Restore carries everything again between the hosts of two lists, in both
// directions. What is cut otherwise stays cut.
func (n *Network) Restore(some, others []string) error {
	here, there, err := n.named(some, others)
	if err != nil {
		return err
	}
	return errors.Join(join(here, there), join(there, here))
}

// join lets what some send others through.
func join(senders, receivers []*Host) error {
	return teach(senders, receivers, func(to *Host) string { return to.hardware })
}

// teach sets what senders take for the hardware addresses of receivers.
func teach(senders, receivers []*Host, hardware func(*Host) string) error {
	var errs []error
	for _, from := range senders {
		var lines []string
		for _, to := range receivers {
			if to != from {
				lines = append(lines, fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", to.Addr, hardware(to), from.device))
			}
		}
		errs = append(errs, script(from.namespace, lines...))
	}
	return errors.Join(errs...)
}

// named finds hosts by their names.
func (n *Network) named(from, to []string) (senders, receivers []*Host, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	byName := map[string]*Host{}
	for _, h := range n.hosts {
		byName[h.Name] = h
	}
	find := func(names []string) (found []*Host) {
		for _, name := range names {
			h := byName[name]
			if h == nil {
				err = fmt.Errorf("no host is named %s", name)
				continue
			}
			found = append(found, h)
		}
		return found
	}
	senders, receivers = find(from), find(to)
	return senders, receivers, err
}
