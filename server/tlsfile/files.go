package tlsfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/millstream-io/millstream/server/pki"
)

// maxFileBytes bounds what is read: certificates are kilobytes.
const maxFileBytes = 1 << 20

// Files are where certificates come from, all in PEM form.
type Files struct {
	// Cert has the certificate, then those of the authorities in between, if
	// there are any.
	Cert string
	// Key has its private key, without passphrase.
	Key string
	// CA has the authorities whose certificates are accepted; empty: none are
	// asked for.
	CA string
}

// contents are what the files hold.
type contents struct{ cert, key, ca []byte }

func (c contents) equal(d contents) bool {
	return bytes.Equal(c.cert, d.cert) && bytes.Equal(c.key, d.key) && bytes.Equal(c.ca, d.ca)
}

// read reads the files. It fails with a *FileError.
func (f Files) read() (contents, error) {
	var c contents
	var err error
	if c.cert, err = readFile(f.Cert); err != nil {
		return c, err
	}
	if c.key, err = readFile(f.Key); err != nil {
		return c, err
	}
	if f.CA != "" {
		c.ca, err = readFile(f.CA)
	}
	return c, err
}

func readFile(name string) ([]byte, error) {
	b, err := readBounded(name)
	switch {
	case err == nil && len(b) > maxFileBytes:
		return nil, &FileError{name, Malformed, fmt.Sprintf("has more than %d bytes: it is no file of certificates", maxFileBytes), nil}
	case err == nil:
		return b, nil
	}
	return nil, fileError(name, err)
}

// fileError says why a file could not be read.
func fileError(name string, err error) *FileError {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &FileError{name, Missing, "does not exist: check the path, or make it with 'millstream cert issue'", err}
	case errors.Is(err, fs.ErrPermission):
		return &FileError{name, Unreadable, "may not be read: give the user that runs this process the right to read it", err}
	}
	return &FileError{name, Unreadable, fmt.Sprintf("cannot be read: %v", err), err}
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	return b, errors.Join(err, f.Close())
}

// Roots returns the authorities in a file. It fails with a *FileError.
func Roots(name string, now time.Time) (*x509.CertPool, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	return roots(name, text, now)
}

func roots(name string, text []byte, now time.Time) (*x509.CertPool, error) {
	certs, err := pki.ParseCertificates(text)
	if err != nil {
		return nil, &FileError{name, Malformed, err.Error(), err}
	}
	pool := x509.NewCertPool()
	var problem Problem
	var why string
	valid := false
	for _, c := range certs {
		pool.AddCert(c) // one that has ended does no harm beside its successor
		if p, w := validity(c, now); p != "" {
			problem, why = p, w
		} else {
			valid = true
		}
	}
	if !valid {
		return nil, &FileError{name, problem, "has no authority that is valid now: the last one " + why, nil}
	}
	return pool, nil
}

// material is what the files of a Source said at one time. It is not changed
// any more.
type material struct {
	contents
	pair     tls.Certificate
	leaf     *x509.Certificate
	roots    *x509.CertPool // nil: no certificates are asked for
	identity pki.Identity   // zero if the certificate has none
}

// parse checks contents and makes material of them. It fails with a
// *FileError.
func (o *Options) parse(c contents, now time.Time) (*material, error) {
	chain, err := pki.ParseCertificates(c.cert)
	if err != nil {
		return nil, &FileError{o.Files.Cert, Malformed, err.Error(), err}
	}
	key, err := pki.ParseKey(c.key)
	if err != nil {
		return nil, &FileError{o.Files.Key, Malformed, err.Error(), err}
	}
	m := &material{contents: c, leaf: chain[0]}
	if !pki.SameKey(m.leaf, key) {
		return nil, &FileError{o.Files.Key, KeyOfOther, "is not the private key of the certificate in " + o.Files.Cert + ": put the two that were issued together in place", nil}
	}
	if p, why := validity(m.leaf, now); p != "" {
		return nil, &FileError{o.Files.Cert, p, why, nil}
	}
	m.pair = tls.Certificate{PrivateKey: key, Leaf: m.leaf}
	for _, cert := range chain {
		m.pair.Certificate = append(m.pair.Certificate, cert.Raw)
	}
	if m.identity, err = pki.IdentityOf(m.leaf); err != nil && o.Role != "" {
		return nil, &FileError{o.Files.Cert, NoIdentity, fmt.Sprintf("does not say whose it is: it %v", err), err}
	}
	if o.Files.CA != "" {
		if m.roots, err = roots(o.Files.CA, c.ca, now); err != nil {
			return nil, err
		}
	}
	if o.Role != "" {
		return m, o.checkOwn(m, chain[1:], now)
	}
	return m, nil
}

// checkOwn refuses a certificate that every other process of the cluster would
// refuse.
func (o *Options) checkOwn(m *material, between []*x509.Certificate, now time.Time) error {
	i := m.identity
	switch {
	case i.Role != o.Role:
		return &FileError{o.Files.Cert, WrongRole, fmt.Sprintf("is of a %s (%s): a %s needs one that was issued with --role %s", i.Role, i, o.Role, o.Role), nil}
	case i.ID != o.ID:
		return &FileError{o.Files.Cert, WrongID, fmt.Sprintf("is of %s %s (%s), and this is %s %s: issue one with --id %s, or set the identity of this process", i.Role, i.ID, i, o.Role, o.ID, o.ID), nil}
	}
	v := x509.VerifyOptions{Roots: m.roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range between {
		v.Intermediates.AddCert(c)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		v.KeyUsages = []x509.ExtKeyUsage{use}
		if _, err := m.leaf.Verify(v); err != nil {
			if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
				return &FileError{o.Files.Cert, UnknownAuthority, "is of no authority in " + o.Files.CA + ": put the two that belong together in place", err}
			}
			return &FileError{o.Files.Cert, WrongUse, fmt.Sprintf("cannot be used between processes, which are server and client both: %v", err), err}
		}
	}
	return nil
}
