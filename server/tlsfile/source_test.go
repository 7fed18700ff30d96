package tlsfile

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millstream-io/millstream/server/pki"
)

// Whatever is wrong with the files is said with the file, a problem for
// programs, and what to do.
func TestFilesThatCannotBeUsedAreNamed(t *testing.T) {
	for _, c := range []struct {
		name    string
		spoil   func(e *env, a *pki.Authority)
		file    string
		problem Problem
		says    []string
	}{
		{"missing certificate", func(e *env, _ *pki.Authority) { e.check(os.Remove(e.path("b.crt"))) }, "b.crt", Missing, []string{"does not exist", "cert issue"}},
		{"missing key", func(e *env, _ *pki.Authority) { e.check(os.Remove(e.path("b.key"))) }, "b.key", Missing, []string{"does not exist"}},
		{"missing authorities", func(e *env, _ *pki.Authority) { e.check(os.Remove(e.path("a.ca"))) }, "a.ca", Missing, []string{"does not exist"}},
		{"a directory", func(e *env, _ *pki.Authority) {
			e.check(os.Remove(e.path("b.key")))
			e.check(os.Mkdir(e.path("b.key"), 0o700))
		}, "b.key", Unreadable, []string{"cannot be read"}},
		{"no PEM", func(e *env, _ *pki.Authority) { e.write("b.crt", []byte("hello")) }, "b.crt", Malformed, []string{"CERTIFICATE"}},
		{"a key for a certificate", func(e *env, _ *pki.Authority) { e.write("b.crt", e.read("b.key")) }, "b.crt", Malformed, []string{"CERTIFICATE", "but PRIVATE KEY"}},
		{"a certificate for a key", func(e *env, _ *pki.Authority) { e.write("b.key", e.read("b.crt")) }, "b.key", Malformed, []string{"PRIVATE KEY", "but CERTIFICATE"}},
		{"an authority that is none", func(e *env, _ *pki.Authority) { e.write("a.ca", nil) }, "a.ca", Malformed, []string{"CERTIFICATE"}},
		{"too large", func(e *env, _ *pki.Authority) { e.write("a.ca", make([]byte, maxFileBytes+1)) }, "a.ca", Malformed, []string{"more than 1048576 bytes"}},
		{"key of another", func(e *env, a *pki.Authority) {
			key := e.read("b.key")
			e.issue(a, "b", pki.RoleBroker, "1", e.clock())
			e.write("b.key", key)
		}, "b.key", KeyOfOther, []string{"b.crt", "issued together"}},
		{"expired", func(e *env, _ *pki.Authority) { e.pass(11 * day) }, "b.crt", Expired, []string{"expired at 2026-12-05T12:00:00Z", "cert issue", "without a restart"}},
		{"not yet valid", func(e *env, _ *pki.Authority) { e.pass(-2 * time.Hour) }, "b.crt", NotYetValid, []string{"clock"}},
		{"expired authority", func(e *env, _ *pki.Authority) {
			a, err := pki.NewAuthority("prod", e.clock().Add(-2*day), day)
			e.check(err)
			e.write("a.ca", pki.EncodeCertificate(a.Cert))
		}, "a.ca", Expired, []string{"no authority that is valid now"}},
		{"of another authority", func(e *env, _ *pki.Authority) { e.authority("a", "prod") }, "b.crt", UnknownAuthority, []string{"a.ca"}},
		{"of another role", func(e *env, a *pki.Authority) { e.issue(a, "b", pki.RoleController, "1", e.clock()) }, "b.crt", WrongRole, []string{"--role broker", "millstream://prod/controller/1"}},
		{"of another id", func(e *env, a *pki.Authority) { e.issue(a, "b", pki.RoleBroker, "2", e.clock()) }, "b.crt", WrongID, []string{"--id 1", "millstream://prod/broker/2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			a := e.authority("a", "prod")
			e.issue(a, "b", pki.RoleBroker, "1", e.clock())
			e.open("b", "a", pki.RoleBroker, "1") // what is not spoilt is taken
			c.spoil(e, a)
			_, err := Open(e.options("b", "a", pki.RoleBroker, "1"))
			f, ok := errors.AsType[*FileError](err)
			if !ok || f.Problem != c.problem || f.File != e.path(c.file) || ProblemOf(err) != c.problem {
				t.Fatalf("got %#v", err)
			}
			for _, s := range append(c.says, f.File) {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

// A file that may not be read is told apart from one that is not there. (Root
// may read everything.)
func TestFilesThatMayNotBeRead(t *testing.T) {
	if os.Getuid() == 0 {
		err := &os.PathError{Op: "open", Path: "x", Err: os.ErrPermission}
		if f := fileError("x", err); f.Problem != Unreadable || !strings.Contains(f.Error(), "right to read") {
			t.Errorf("got %v", f)
		}
		return
	}
	e := newEnv(t)
	e.write("x", nil)
	e.check(os.Chmod(e.path("x"), 0))
	_, err := Roots(e.path("x"), e.clock())
	if ProblemOf(err) != Unreadable || !strings.Contains(err.Error(), "right to read") {
		t.Errorf("got %v", err)
	}
}

// Files that are replaced are taken up when the interval has passed; until the
// last of them is in place, what was before stays, and the log says so once.
func TestFilesAreTakenUpWhole(t *testing.T) {
	e := newEnv(t)
	a := e.authority("a", "prod")
	e.issue(a, "b", pki.RoleBroker, "1", e.clock())
	reg := prometheus.NewRegistry()
	o := e.options("b", "a", pki.RoleBroker, "1")
	o.Registerer = reg
	s, err := Open(o)
	e.check(err)
	first := s.current().leaf

	// Half of what comes.
	e.issue(a, "next", pki.RoleBroker, "1", e.clock().Add(time.Hour), "h")
	e.write("b.crt", e.read("next.crt"))
	if s.current().leaf != first {
		t.Error("files are looked at before the interval has passed")
	}
	for range 3 {
		e.pass(DefaultInterval)
		if s.current().leaf != first {
			t.Error("half a pair is in use")
		}
	}
	if n := e.logged("not taken up"); n != 1 {
		t.Errorf("the log says it %d times\n%s", n, e.log.String())
	}
	// The other half.
	e.write("b.key", e.read("next.key"))
	e.pass(DefaultInterval)
	second := s.current().leaf
	if second.Equal(first) || len(second.DNSNames) != 1 {
		t.Error("the new pair is not in use")
	}
	// Wrong again, in another way each time, and put back.
	e.write("b.crt", []byte("x"))
	e.pass(DefaultInterval)
	s.current()
	e.check(os.Remove(e.path("b.crt")))
	e.pass(DefaultInterval)
	s.current()
	e.write("b.crt", e.read("next.crt"))
	e.pass(DefaultInterval)
	if s.current().leaf != second || e.logged("not taken up") != 3 || e.logged("in place again") != 1 {
		t.Errorf("\n%s", e.log.String())
	}
	if failures, reloads := e.metric(reg, "reload_failures_total"), e.metric(reg, "reloads_total"); failures != 3 || reloads != 1 {
		t.Errorf("%v failures, %v reloads are counted", failures, reloads)
	}
}

// What is not valid yet is taken up when it is, though the files do not change
// any more.
func TestFilesAreTakenUpWhenTheirTimeComes(t *testing.T) {
	e := newEnv(t)
	a := e.authority("a", "prod")
	e.issue(a, "b", pki.RoleBroker, "1", e.clock())
	s := e.open("b", "a", pki.RoleBroker, "1")
	e.issue(a, "b", pki.RoleBroker, "1", e.clock().Add(day), "later")
	e.pass(time.Minute)
	if len(s.current().leaf.DNSNames) != 0 || e.logged("is valid from") != 1 {
		t.Errorf("it is in use already\n%s", e.log.String())
	}
	e.pass(day)
	if len(s.current().leaf.DNSNames) != 1 {
		t.Errorf("it is not in use\n%s", e.log.String())
	}
}

// The end of a certificate is told: to the metrics always, to the log when it
// is near and when it has come.
func TestTheEndOfACertificateIsTold(t *testing.T) {
	e := newEnv(t)
	a := e.authority("a", "prod")
	e.issue(a, "b", pki.RoleServer, "1", e.clock())
	reg := prometheus.NewRegistry()
	o := e.options("b", "", "", "")
	o.Registerer = reg
	_, err := Open(o)
	e.check(err)
	for _, c := range []struct {
		pass           time.Duration
		seconds        float64
		warned, failed int
	}{
		{0, 10 * 86400, 0, 0},
		{7 * day, 3 * 86400, 0, 0},
		{2 * day, 86400, 1, 0},
		{time.Hour, 82800, 1, 0},
		{day, -3600, 1, 1},
		{day, -90000, 1, 1},
	} {
		e.pass(c.pass)
		if got := e.metric(reg, "certificate_expiry_seconds"); got != c.seconds || e.logged("expires soon") != c.warned || e.logged("has expired") != c.failed {
			t.Errorf("%s later: %v s\n%s", c.pass, got, e.log.String())
		}
	}
}

func TestSourcesNeedWhatTheyVerifyWith(t *testing.T) {
	e := newEnv(t)
	for _, change := range []func(*Options){
		func(o *Options) { o.Use = "" },
		func(o *Options) { o.Logger = nil },
		func(o *Options) { o.Files.Key = "" },
		func(o *Options) { o.Files.CA = "" },
		func(o *Options) { o.Interval = -1 },
	} {
		o := e.options("b", "a", pki.RoleBroker, "1")
		change(&o)
		if _, err := Open(o); err == nil || ProblemOf(err) != other {
			t.Errorf("got %v", err)
		}
	}
}
