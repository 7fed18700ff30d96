package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/server/pki"
)

// Problem is what is wrong with a certificate, a key, or the other side of a
// connection, for programs and for labels of metrics.
type Problem string

// Problems of files.
const (
	Missing    Problem = "missing"      // there is no such file
	Unreadable Problem = "unreadable"   // the file cannot be read
	Malformed  Problem = "malformed"    // the file does not have what it should
	KeyOfOther Problem = "key_of_other" // the key is that of another certificate
)

// Problems of files and of the other side.
const (
	Expired          Problem = "expired"
	NotYetValid      Problem = "not_yet_valid"
	UnknownAuthority Problem = "unknown_authority" // of no authority that is trusted
	WrongUse         Problem = "wrong_use"         // not for this end of a connection
	NoIdentity       Problem = "no_identity"       // it does not say whose it is
	WrongCluster     Problem = "wrong_cluster"
	WrongRole        Problem = "wrong_role"
	WrongID          Problem = "wrong_id"
)

// Problems of the other side.
const (
	NoCertificate Problem = "no_certificate" // none was verified
	WrongHost     Problem = "wrong_host"     // the certificate is not for that name
	NotTLS        Problem = "not_tls"        // it does not speak TLS
	Refused       Problem = "refused"        // it does not accept us
)

// other is what is no problem of certificates.
const other Problem = "other"

// FileError says what is wrong with a file of certificates or keys, and what
// to do about it.
type FileError struct {
	File    string
	Problem Problem
	// Why says what is wrong, to follow the name of the file, and what to do.
	Why string
	// Cause is the error below, if there is one.
	Cause error
}

// Error says it for people.
func (e *FileError) Error() string { return e.File + " " + e.Why }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Cause }

// PeerError says what is wrong with the other side of a connection, and what to
// do about it.
type PeerError struct {
	// Peer is its address or name; empty: the connection says it.
	Peer    string
	Problem Problem
	// Why says what is wrong and what to do.
	Why string
	// Cause is the error below, if there is one.
	Cause error
}

// Error says it for people.
func (e *PeerError) Error() string {
	if e.Peer == "" {
		return e.Why
	}
	return e.Peer + ": " + e.Why
}

// Unwrap returns the cause.
func (e *PeerError) Unwrap() error { return e.Cause }

// Explain makes a *PeerError of the error of a handshake with peer that
// certificates or TLS are to blame for; others, such as a connection that was
// cut, come back as they are.
func Explain(err error, peer string, now time.Time) error {
	if _, ok := errors.AsType[*PeerError](err); ok || err == nil {
		return err
	}
	of := func(p Problem, format string, args ...any) error {
		return &PeerError{Peer: peer, Problem: p, Why: fmt.Sprintf(format, args...), Cause: err}
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			p, why := validity(e.Cert, now)
			return of(p, "its certificate (%s) %s", subject(e.Cert), why)
		}
		return of(WrongUse, "its certificate cannot be used for this: %v", e)
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return of(WrongHost, "its certificate is for %s, not for %s: use one of those names, or issue it for this one too (--host %s)", hosts(e.Certificate), e.Host, e.Host)
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return of(UnknownAuthority, "its certificate (%s) is of no authority that is trusted here: put the certificate of its authority into the file that names them (--tls-ca; between processes --internal-tls-ca)", subject(e.Cert))
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return of(NotTLS, "it does not speak TLS on this port")
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert
		return of(Refused, "it did not accept this side: %v; its log says why", e.Err)
	}
	return err
}

// ProblemOf returns the problem that err is about; "other" if it is about none of these.
func ProblemOf(err error) Problem {
	if e, ok := errors.AsType[*PeerError](err); ok {
		return e.Problem
	}
	if e, ok := errors.AsType[*FileError](err); ok {
		return e.Problem
	}
	return other
}

// validity says why a certificate is not valid now; "" if it is.
func validity(c *x509.Certificate, now time.Time) (Problem, string) {
	switch {
	case now.Before(c.NotBefore):
		return NotYetValid, fmt.Sprintf("is valid from %s only, and it is %s: check the clock of this machine and of the one that issued it", stamp(c.NotBefore), stamp(now))
	case now.After(c.NotAfter):
		return Expired, fmt.Sprintf("expired at %s, and it is %s: issue another (millstream cert issue) and put it in its place; a process that runs takes it up without a restart", stamp(c.NotAfter), stamp(now))
	}
	return "", ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// subject names a certificate in an error.
func subject(c *x509.Certificate) string {
	if c == nil {
		return "unnamed"
	}
	for _, u := range c.URIs {
		return u.String()
	}
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return "serial " + c.SerialNumber.String()
}

// hosts names what a certificate is for, but for what nobody dials.
func hosts(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	if i, err := pki.IdentityOf(c); err == nil {
		names = slices.DeleteFunc(names, func(n string) bool { return n == pki.RoleHost(i.Cluster, i.Role) })
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host"
	}
	return strings.Join(names, ", ")
}
