package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/pki"
)

// trust has members trust these authorities, as soon as they read the file.
func (s *story) trust(all ...*authority) {
	s.t.Helper()
	var text []byte
	for _, a := range all {
		text = append(text, pki.EncodeCertificate(a.Cert)...)
	}
	s.check(os.WriteFile(s.authority.path("ca.crt"), text, 0o644))
}

// certify gives all members certificates of another authority.
func (s *story) certify(a *authority) {
	s.t.Helper()
	for _, m := range append(s.Controllers(), s.Brokers()...) {
		role := pki.RoleController
		if m.Kind == brokerKind {
			role = pki.RoleBroker
		}
		now := time.Now()
		cert, key, err := a.Issue(request(role, m.ID, loopback, now), now)
		s.check(err)
		s.check(s.authority.write(m.Name(), cert, key))
	}
}

// meets connects to where a controller serves its quorum, as a controller of an
// authority, and tells of which one the certificate is that it shows; nil: it
// refuses.
func (s *story) meets(m *Member, as *authority, all ...*authority) *authority {
	s.t.Helper()
	now := time.Now()
	cert, key, err := as.Issue(request(pki.RoleController, observerID, loopback, now), now)
	s.check(err)
	roots := x509.NewCertPool()
	for _, a := range all {
		roots.AddCert(a.Cert)
	}
	pair := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	raw, err := new(net.Dialer).DialContext(s.within(), "tcp", m.InternalAddr)
	s.check(err)
	defer func() { _ = raw.Close() }()
	s.check(raw.SetDeadline(time.Now().Add(time.Minute)))
	conn := tls.Client(raw, &tls.Config{
		RootCAs: roots, ServerName: loopback, MinVersion: tls.VersionTLS13,
		// One of an authority that the other side does not name is shown too.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	})
	// A server that refuses a certificate says so when it is read from.
	if _, err := fmt.Fprint(conn, "GET /version HTTP/1.0\r\n\r\n"); err != nil {
		return nil
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return nil
	}
	shown := conn.ConnectionState().PeerCertificates[0]
	i := slices.IndexFunc(all, func(a *authority) bool { return shown.CheckSignatureFrom(a.Cert) == nil })
	return all[i]
}

// The authority of a cluster is replaced as docs/operations/tls.md says: those who
// produce and those who change the metadata notice nothing of it, there is a quorum
// all the time, and at the end nobody of the old authority gets in.
func TestTheAuthorityIsReplacedUnderLoad(t *testing.T) {
	long(t, "starts six processes, three of them three times")
	t.Parallel() // it waits, mostly
	s := open(t, t.TempDir(), 0)
	s.check(s.Start(s.within()))
	old := s.authority
	made, err := pki.NewAuthority(clusterName, time.Now(), authorityValid)
	s.check(err)
	next := &authority{made, old.dir}
	client := s.client()
	_, err = client.Topics().CreateTopic(s.within(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 3})
	s.check(err)
	load := s.press(client, "orders")
	s.check(load.goesOn(s.within(), 20, 3))
	// Controllers one by one, each when the one before is ready.
	restart := func() {
		t.Helper()
		for _, c := range s.Controllers() {
			s.check(c.Restart(s.within()))
			s.check(load.goesOn(s.within(), 20, 3))
		}
	}
	observe := func(as *authority) {
		t.Helper()
		observer, err := as.observer()
		s.check(err)
		observer.RootCAs.AddCert(old.Cert)
		s.observer = observer
	}

	// 1. Both are trusted: by the quorum not before it is started again.
	s.trust(old, next)
	for _, c := range s.Controllers() {
		if got := s.meets(c, next, old, next); got != nil {
			t.Errorf("the quorum of %s trusts the new authority without a restart: then the procedure is simpler than the documentation says", c.Name())
		}
	}
	restart()
	for _, c := range s.Controllers() {
		if got := s.meets(c, next, old, next); got != old {
			t.Errorf("%s does not take somebody of the new authority in", c.Name())
		}
	}

	// 2. Certificates, which need no restart.
	s.certify(next)
	observe(next)
	for _, c := range s.Controllers() {
		if got := s.meets(c, old, old, next); got != next {
			t.Errorf("%s does not show its new certificate", c.Name())
		}
		s.check(c.AwaitReady(s.within()))
	}
	s.check(load.goesOn(s.within(), 20, 3))

	// 3. The old one is trusted no more.
	s.trust(next)
	restart()
	for _, c := range s.Controllers() {
		if s.meets(c, old, old, next) != nil {
			t.Errorf("%s takes somebody of the old authority in", c.Name())
		}
		if s.meets(c, next, old, next) != next {
			t.Errorf("%s refuses somebody of the new authority", c.Name())
		}
	}
	if refused, produced := load.failures(); len(refused) > 0 || produced != nil {
		t.Errorf("while the authority was replaced, topics were refused: %v; records: %v", refused, produced)
	}
	load.stop()
	// Nothing of the old one is left anywhere: all find each other anew.
	for _, b := range s.Brokers() {
		s.check(b.Restart(s.within()))
	}
	s.create(s.Broker(2), "afterwards")
	s.check(s.Stop(s.within()))
}
