package ceiling

import (
	"context"
	"errors"
)

// servers are those of a round.
type servers struct {
	ctx    context.Context //nolint:containedctx // ends when one of the servers has
	cancel context.CancelFunc
	all    []*process // the leader first
	addr   string     // of the leader, for clients
}

// open starts the servers of a round.
func (o *Options) open(ctx context.Context, dir string) (*servers, error) {
	specs := make([]spec, o.Followers+1)
	for i := range specs {
		specs[i] = spec{
			ID: i, Dir: dir, Size: o.Size, Messages: o.warm() + o.messages(), Window: o.Window,
			Followers: o.Followers, Need: o.Followers, FromFile: o.From == FromFile, TLS: o.TLS,
		}
		if o.Acks == AcksOne {
			specs[i].Need = min(1, o.Followers)
		}
	}
	if o.TLS {
		if err := issue(specs); err != nil {
			return nil, err
		}
	}
	s := &servers{}
	s.ctx, s.cancel = context.WithCancel(ctx)
	var spoken addresses
	for i := range specs {
		tell := &spoken
		if i > 0 {
			specs[i].Leader, tell = spoken.Followers, nil
		}
		p, err := start(ctx, o.Self, specs[i], tell)
		if err != nil {
			s.close()
			return nil, err
		}
		s.all = append(s.all, p)
		go func() {
			<-p.exited
			s.cancel()
		}()
	}
	s.addr = spoken.Clients
	return s, nil
}

// pids are the numbers of the processes.
func (s *servers) pids() (all []int) {
	for _, p := range s.all {
		all = append(all, p.cmd.Process.Pid)
	}
	return all
}

// stop stops the servers in order, and says if one of them failed. The leader is
// the first: that it stops is no failure of those who follow it.
func (s *servers) stop() error {
	var errs []error
	for _, p := range s.all {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// close kills what runs still.
func (s *servers) close() {
	s.cancel()
	for _, p := range s.all {
		p.kill()
	}
}
