package quorum

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
)

// mostNamed bounds the controllers that are taken from what one says: five, and
// one that takes the place of another.
const mostNamed = 6

// Conn is a connection to a controller.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// DirectoryOptions are what a Directory needs.
type DirectoryOptions struct {
	// Seeds are the controllers that are configured, HOST:PORT: at least one. They
	// are asked for as long as the directory lives, behind those that controllers
	// name: if none of those is reached, one of these may be.
	Seeds []string
	// Known are where the controllers were the last time, HOST:PORT: they are asked
	// behind the seeds until controllers name others.
	Known []string
	// Dial returns a connection, which is made when it is first used.
	Dial func(address string) (Conn, error)
	// Logger; nil: none.
	Logger *slog.Logger
}

// Directory is where the controllers are: the configured ones, and those that
// they name, which may be all others by now. Its methods may be called from any
// goroutine.
//
// INVARIANT: there is one connection to each address that was named last, is a
// seed or, until the first is named, was known before; and none to another.
type Directory struct {
	*Quorum

	o      DirectoryOptions
	logger *slog.Logger

	mu     sync.Mutex // guards what follows; dialling does not wait
	named  []string   // in order
	seats  map[string]*seat
	closed bool
}

// NewDirectory returns a directory of the seeds. Close closes its connections.
func NewDirectory(o DirectoryOptions) (*Directory, error) {
	d := &Directory{o: o, logger: o.Logger, seats: map[string]*seat{}}
	if d.logger == nil {
		d.logger = slog.New(slog.DiscardHandler)
	}
	all := slices.Clone(o.Seeds)
	for _, a := range addressesOf(o.Known) {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	ring, err := d.dial(all)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	conns := make([]grpc.ClientConnInterface, len(ring))
	for i, s := range ring {
		conns[i] = s.conn
	}
	if d.Quorum, err = New(Options{Controllers: conns, Logger: d.logger}); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.replace(ring) // with the seats that are known by their addresses
	return d, nil
}

// addressesOf returns what of it are addresses, in order, and no more than may be
// named.
func addressesOf(list []string) []string {
	var named []string
	for _, a := range list {
		if host, port, err := net.SplitHostPort(a); err == nil && host != "" && port != "" && !slices.Contains(named, a) && len(named) < mostNamed {
			named = append(named, a)
		}
	}
	slices.Sort(named)
	return named
}

// Follow has the controllers asked that are named, HOST:PORT, before the
// seeds, and no other. What is no address is passed over, and so is everything
// if nothing is left. It returns who is named, in order, if that is not who was
// before; nil else.
func (d *Directory) Follow(addresses []string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	named := addressesOf(addresses)
	if d.closed || len(named) == 0 || slices.Equal(named, d.named) {
		return nil
	}
	wanted := named
	for _, seed := range d.o.Seeds {
		if !slices.Contains(wanted, seed) {
			wanted = append(slices.Clip(wanted), seed)
		}
	}
	ring, err := d.dial(wanted)
	if err != nil {
		d.logger.Warn("controllers not followed", slog.Any("controllers", named), slog.Any("err", err))
		return nil
	}
	d.logger.Info("controllers are", slog.Any("controllers", named))
	d.named = named
	d.replace(ring)
	for a, s := range d.seats {
		if !slices.Contains(wanted, a) {
			delete(d.seats, a)
			_ = s.close() // what was on its way to it has an unknown outcome, as if it had died
		}
	}
	return slices.Clone(named)
}

// dial returns the seats of addresses, in order. Connections that it makes
// belong to the directory, also if it fails.
//
// REQUIRES: the mutex is held, or nobody else knows of the directory.
func (d *Directory) dial(addresses []string) ([]*seat, error) {
	ring := make([]*seat, 0, len(addresses))
	for _, a := range addresses {
		s := d.seats[a]
		if s == nil {
			conn, err := d.o.Dial(a)
			if err != nil {
				return nil, err
			}
			s = &seat{conn}
			d.seats[a] = s
		}
		ring = append(ring, s)
	}
	return ring, nil
}

// close closes the connection of a seat that a directory made.
func (s *seat) close() error {
	if c, ok := s.conn.(Conn); ok {
		return c.Close()
	}
	return nil
}

// Close closes all connections. Nobody is asked any more.
func (d *Directory) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	var errs []error
	for _, s := range d.seats {
		errs = append(errs, s.close())
	}
	d.seats = nil
	return errors.Join(errs...)
}
