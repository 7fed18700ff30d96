package etcd

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/ports"
)

// certified is an authority and the files of those whom it certified.
type certified struct {
	t         *testing.T
	dir       string
	authority *pki.Authority
	addrs     map[int32]string // where members listen for their peers
}

func newCertified(t *testing.T) *certified {
	t.Helper()
	a, err := pki.NewAuthority("prod", time.Now(), 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := &certified{t, t.TempDir(), a, map[int32]string{}}
	// Sockets in the file system cannot have TLS: ports that were free must do.
	for id := range int32(2) {
		if c.addrs[id], err = ports.Loopback(c.addrs[0]); err != nil {
			t.Fatal(err)
		}
	}
	c.write("ca.crt", pki.EncodeCertificate(a.Cert))
	return c
}

func (c *certified) write(name string, text []byte) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), text, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// issue puts a certificate for this machine, and its key, into the files of its
// owner, and returns them.
func (c *certified) issue(role pki.Role, id int32) *TLS {
	c.t.Helper()
	now := time.Now()
	cert, key, err := c.authority.Issue(pki.Request{Role: role, ID: fmt.Sprint(id), Hosts: []string{"127.0.0.1"}, NotAfter: now.Add(time.Hour)}, now)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	name := fmt.Sprintf("%s-%d", role, id)
	c.write(name+".crt", pki.EncodeCertificate(cert))
	c.write(name+".key", text)
	path := func(ext string) string { return filepath.Join(c.dir, name+ext) }
	return &TLS{Cert: path(".crt"), Key: path(".key"), CA: filepath.Join(c.dir, "ca.crt"), Name: pki.RoleHost("prod", pki.RoleController)}
}

// secured is peer with certificates.
func (c *certified) secured(id int32, of ...int32) Options {
	c.t.Helper()
	o := peer(c.t, id, of...)
	for i, p := range o.Peers {
		o.Peers[i].URL = c.url(p.ID)
	}
	o.ListenPeers, o.TLS = c.url(id), c.issue(pki.RoleController, id)
	return o
}

func (c *certified) url(id int32) string { return "https://" + c.addrs[id] }

// call connects to where controller 0 listens for its peers and returns the
// number of the certificate that it shows, if it accepts the caller.
func (c *certified) call(files *TLS) (*big.Int, error) {
	c.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(c.authority.Cert)
	cfg := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
	if files != nil {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			c.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	raw, err := net.Dial("tcp", c.addrs[0])
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	conn := tls.Client(raw, cfg)
	// A server that refuses a certificate says so when it is read from.
	if _, err := fmt.Fprint(conn, "GET /version HTTP/1.0\r\n\r\n"); err != nil {
		return nil, err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// Members with certificates of controllers make a quorum; nobody else gets in,
// be it a broker of the same cluster, and a certificate that is replaced is in
// use at once.
func TestMembersKnowEachOtherByCertificates(t *testing.T) {
	c := newCertified(t)
	m, ctx := open(t, c.secured(0, 0))
	put(ctx, t, m, "/a", "1", 0)
	key, err := m.AddLearner(ctx, c.url(1))
	if err != nil {
		t.Fatal(err)
	}
	o := c.secured(1, 0, 1)
	o.Join, o.Logger = true, slog.New(slog.DiscardHandler)
	added, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := added.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := m.Promote(ctx, key); err != nil { // it has everything: both spoke to each other
		t.Fatal(err)
	}
	put(ctx, t, m, "/b", "2", 0)

	first, err := c.call(c.issue(pki.RoleController, 2))
	if err != nil {
		t.Errorf("a controller is refused: %v", err)
	}
	if _, err := c.call(c.issue(pki.RoleBroker, 1)); err == nil {
		t.Error("a broker got in")
	}
	if _, err := c.call(nil); err == nil {
		t.Error("somebody without a certificate got in")
	}
	c.issue(pki.RoleController, 0)
	second, err := c.call(c.issue(pki.RoleController, 2))
	if err != nil || first.Cmp(second) == 0 {
		t.Errorf("the new certificate is not in use: %v", err)
	}

	// Authorities are read once, and that is said.
	if m.StaleAuthorities() {
		t.Error("the authorities have not changed")
	}
	before, err := os.ReadFile(filepath.Join(c.dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	next, err := pki.NewAuthority("prod", time.Now(), 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.write("ca.crt", append(before, pki.EncodeCertificate(next.Cert)...))
	if !m.StaleAuthorities() || !added.StaleAuthorities() {
		t.Error("another authority is in the file, and nobody says so")
	}
	var said bytes.Buffer
	m.logger = slog.New(slog.NewTextHandler(&said, nil))
	m.tellStale(ctx)
	m.tellStale(ctx)
	if n := strings.Count(said.String(), "restart one after the other"); n != 1 {
		t.Errorf("it says so %d times: %s", n, said.String())
	}
	c.write("ca.crt", before)
	if m.StaleAuthorities() {
		t.Error("the authorities are what they were")
	}
}
