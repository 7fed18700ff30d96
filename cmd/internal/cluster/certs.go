package cluster

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/renameio/v2"

	"github.com/millstream-io/millstream/server/pki"
)

const (
	clusterName    = "local"
	authorityValid = 10 * 365 * 24 * time.Hour
	certValid      = 365 * 24 * time.Hour
	// renewBefore is how long a certificate must still be valid when a cluster
	// is opened; others are issued anew.
	renewBefore = 30 * 24 * time.Hour
	// observerID is the controller that the harness is to those that it asks
	// how they are. No member has it.
	observerID = 1_000_000
)

// authority is what certifies the members of one cluster, and its directory.
type authority struct {
	*pki.Authority
	dir string
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// openAuthority reads the authority of a cluster, or makes it.
func openAuthority(dir string) (*authority, error) {
	a := &authority{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(a.path("ca.crt"))
	if err == nil {
		var key []byte
		if key, err = os.ReadFile(a.path("ca.key")); err == nil {
			a.Authority, err = pki.ParseAuthority(cert, key)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		if a.Authority, err = pki.NewAuthority(clusterName, time.Now(), authorityValid); err == nil {
			err = a.write("ca", a.Cert, a.Key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the authority in %s: %w", dir, err)
	}
	return a, nil
}

// write writes NAME.key and NAME.crt.
func (a *authority) write(name string, cert *x509.Certificate, key crypto.Signer) error {
	text, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(a.path(name+".key"), text, 0o600); err != nil {
		return err
	}
	return renameio.WriteFile(a.path(name+".crt"), pki.EncodeCertificate(cert), 0o644)
}

// issue makes sure that a member has a certificate for its address, and returns the flags that
// name it.
func (a *authority) issue(role pki.Role, id int, addr string) ([]string, error) {
	name := fmt.Sprintf("%s-%d", role, id)
	flags := []string{
		"--internal-tls-cert", a.path(name + ".crt"), "--internal-tls-key", a.path(name + ".key"), "--internal-tls-ca", a.path("ca.crt"),
	}
	now := time.Now()
	text, err := os.ReadFile(a.path(name + ".crt"))
	if err == nil {
		if certs, err := pki.ParseCertificates(text); err == nil && now.Add(renewBefore).Before(certs[0].NotAfter) && certs[0].VerifyHostname(addr) == nil {
			return flags, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cert, key, err := a.Issue(request(role, id, addr, now), now)
	if err != nil {
		return nil, err
	}
	return flags, a.write(name, cert, key)
}

func request(role pki.Role, id int, addr string, now time.Time) pki.Request {
	hosts := []string{loopback, "localhost"}
	if addr != loopback {
		hosts = append(hosts, addr)
	}
	return pki.Request{Role: role, ID: strconv.Itoa(id), Hosts: hosts, NotAfter: now.Add(certValid)}
}

// observer returns the TLS by which the harness asks members how they are.
func (a *authority) observer() (*tls.Config, error) {
	now := time.Now()
	cert, key, err := a.Issue(request(pki.RoleController, observerID, loopback, now), now)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	return &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
	}, nil
}
