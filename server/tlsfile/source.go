// Package tlsfile makes TLS of certificates in files: what servers and clients
// of Millstream show, and whom they accept. It takes up files that change
// without a restart.
//
// It owns reading and checking the files, credentials made of them, who the
// other side of a call is, and errors that say what is wrong and what to do. It
// refuses to own what a role may do, and which listener has TLS.
//
// INVARIANT: what a handshake uses was valid as a whole when it was read:
// certificate, key and authorities that belong together. Files that are wrong,
// or half replaced, change nothing; the ones before stay in use and the log
// says so once. A handshake uses what the files said at most Options.Interval
// before.
//
// It starts no goroutine: handshakes and scrapes of the metrics look at the
// files, one of them at a time, at most once in an interval. Connections that
// are open keep what they began with.
package tlsfile

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millstream-io/millstream/server/pki"
)

const (
	// DefaultInterval is how often files are looked at.
	DefaultInterval = time.Second
	// soon is how long before its end a certificate is warned of; for one that
	// is short-lived, the last fifth of its life.
	soon = 7 * 24 * time.Hour
	// refusalLogInterval is how often a refused handshake is logged; the
	// metrics count all of them.
	refusalLogInterval = 10 * time.Second
)

// Options say what a Source is made of. The zero value of a field stands for
// its default, where there is one.
type Options struct {
	// Use tells the sources of a process apart in metrics and logs: `public`,
	// `internal`. Required.
	Use string
	// Files are what it reads. Cert and Key are required, with Role CA too.
	Files Files
	// Role and ID are whose the certificate must be; no role: anybody's.
	Role pki.Role
	ID   string
	// Interval is how often the files are looked at; 0: DefaultInterval.
	Interval time.Duration
	// Now is the time of day; nil: time.Now.
	Now func() time.Time
	// Logger is required.
	Logger *slog.Logger
	// Registerer receives the metrics; nil: none are registered.
	Registerer prometheus.Registerer
}

func (o *Options) validate() error {
	switch {
	case o.Use == "" || o.Logger == nil:
		return errors.New("tlsfile: Use and Logger are required")
	case o.Files.Cert == "" || o.Files.Key == "":
		return errors.New("tlsfile: a certificate and its key are required")
	case o.Role != "" && o.Files.CA == "":
		return errors.New("tlsfile: a role cannot be verified without authorities")
	case o.Interval < 0:
		return errors.New("tlsfile: Interval may not be negative")
	}
	return nil
}

// Source is certificates in files. Its methods may be called from any
// goroutine.
type Source struct {
	o       Options
	metrics *metrics

	// live is what handshakes use. Only a holder of mu stores it.
	live atomic.Pointer[material]
	// next is when the files are to be looked at again, in Unix nanoseconds.
	// Only a holder of mu stores it.
	next atomic.Int64

	mu sync.Mutex // guards what follows
	// failure is why the files could not be taken up when they were last
	// looked at; "": they were.
	failure string
	warned  warning

	loggedRefusal atomic.Int64 // when one was last logged, in Unix nanoseconds
}

// warning is what the log was told of the life of the certificate in use.
type warning int

const (
	warnedNothing warning = iota
	warnedSoon
	warnedExpired
)

// Open reads the files. It fails with a *FileError.
func Open(o Options) (*Source, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	now := o.Now()
	c, err := o.Files.read()
	if err != nil {
		return nil, err
	}
	m, err := o.parse(c, now)
	if err != nil {
		return nil, err
	}
	s := &Source{o: o}
	s.live.Store(m)
	s.next.Store(now.Add(o.Interval).UnixNano())
	s.warn(m, now)
	if s.metrics, err = newMetrics(o.Registerer, o.Use, s.untilExpiry); err != nil {
		return nil, fmt.Errorf("register the metrics of certificates: %w", err)
	}
	return s, nil
}

// Identity returns who the certificate says that this process is; the zero
// identity if it does not.
func (s *Source) Identity() pki.Identity { return s.current().identity }

// CheckHost fails with a *FileError if the certificate is not for a host.
func (s *Source) CheckHost(host string) error {
	if err := s.current().leaf.VerifyHostname(host); err != nil {
		return &FileError{s.o.Files.Cert, WrongHost, fmt.Sprintf("is not for %s: issue one with that DNS name too (millstream cert issue gives it to controllers)", host), err}
	}
	return nil
}

// current returns what a handshake is to use, after a look at the files if one
// is due. Whoever comes while another looks does not wait.
func (s *Source) current() *material {
	now := s.o.Now()
	if now.UnixNano() >= s.next.Load() && s.mu.TryLock() {
		s.look(now)
		s.mu.Unlock()
	}
	return s.live.Load()
}

// look takes up files that have changed. REQUIRES: mu is held.
func (s *Source) look(now time.Time) {
	s.next.Store(now.Add(s.o.Interval).UnixNano())
	was := s.live.Load()
	c, err := s.o.Files.read()
	if err == nil && c.equal(was.contents) {
		if s.failure != "" {
			s.o.Logger.Info("the certificate in use is in place again", slog.String("use", s.o.Use))
			s.failure = ""
		}
		s.warn(was, now)
		return
	}
	var m *material
	if err == nil {
		m, err = s.o.parse(c, now)
	}
	if err != nil {
		s.warn(was, now)
		if err.Error() == s.failure { // it is looked at again, as time alone may mend it
			return
		}
		s.failure = err.Error()
		s.metrics.failures.Inc()
		s.o.Logger.Error("certificate not taken up; the one before stays in use", slog.String("use", s.o.Use),
			slog.String("expires", stamp(was.leaf.NotAfter)), slog.Any("err", err))
		return
	}
	s.live.Store(m)
	s.failure, s.warned = "", warnedNothing
	s.metrics.reloads.Inc()
	s.o.Logger.Info("certificate taken up", slog.String("use", s.o.Use), slog.String("of", subject(m.leaf)), slog.String("expires", stamp(m.leaf.NotAfter)))
	s.warn(m, now)
}

// warn tells the log, once each, that the certificate in use ends soon and that
// it has ended. REQUIRES: mu is held, or nobody else has the source yet.
func (s *Source) warn(m *material, now time.Time) {
	left := m.leaf.NotAfter.Sub(now)
	switch {
	case left < 0 && s.warned < warnedExpired:
		s.warned = warnedExpired
		s.o.Logger.Error("the certificate in use has expired: nobody accepts it any more", slog.String("use", s.o.Use), slog.String("file", s.o.Files.Cert))
	case left < min(soon, m.leaf.NotAfter.Sub(m.leaf.NotBefore)/5) && s.warned < warnedSoon:
		s.warned = warnedSoon
		s.o.Logger.Warn("the certificate in use expires soon", slog.String("use", s.o.Use), slog.String("file", s.o.Files.Cert), slog.String("expires", stamp(m.leaf.NotAfter)))
	}
}

// untilExpiry is how long the certificate in use is valid, in seconds; negative
// when it has expired.
func (s *Source) untilExpiry() float64 {
	return s.current().leaf.NotAfter.Sub(s.o.Now()).Seconds()
}

// refused counts a handshake that failed, and logs it at level, but not each
// of many.
func (s *Source) refused(err error, level slog.Level, peer string) {
	problem := ProblemOf(err)
	s.metrics.refused.WithLabelValues(string(problem)).Inc()
	if problem == other { // somebody connected and went away
		level = slog.LevelDebug
	}
	now := s.o.Now().UnixNano()
	last := s.loggedRefusal.Load()
	if now-last < int64(refusalLogInterval) || !s.loggedRefusal.CompareAndSwap(last, now) {
		return
	}
	s.o.Logger.Log(noContext, level, "connection refused", slog.String("use", s.o.Use), slog.String("peer", peer), slog.Any("err", err))
}
