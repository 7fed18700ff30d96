package tlsfile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/millstream-io/millstream/server/pki"
)

// ServerConfig returns the TLS of a listener for the application protocols, in
// order of preference. With Files.CA it accepts only clients with a
// certificate of one of those authorities.
func (s *Source) ServerConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := s.current()
			c := &tls.Config{Certificates: []tls.Certificate{m.pair}, MinVersion: tls.VersionTLS12, NextProtos: protocols, Time: s.o.Now}
			if m.roots != nil {
				c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, m.roots
				// Both ends are ours.
				c.MinVersion = tls.VersionTLS13
				// WHY: whoever resumes a session is not verified again, and the
				// authorities may have changed.
				c.SessionTicketsDisabled = true
			}
			return c, nil
		},
	}
}

// ServerCredentials returns ServerConfig for a gRPC server. Handshakes that
// fail are counted, and logged at level, at most one in 10 s.
func (s *Source) ServerCredentials(level slog.Level) credentials.TransportCredentials {
	return &serverCredentials{credentials.NewTLS(s.ServerConfig()), s, level}
}

type serverCredentials struct {
	credentials.TransportCredentials
	source *Source
	level  slog.Level
}

// ServerHandshake is part of credentials.TransportCredentials.
func (c *serverCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	// Only members of the cluster are few enough to be read ahead.
	under := gather(raw, c.source.o.Role != "")
	conn, info, err := c.TransportCredentials.ServerHandshake(under)
	if err != nil {
		addr := raw.RemoteAddr().String()
		err = Explain(err, "", c.source.o.Now())
		c.source.refused(err, c.level, addr)
		return nil, nil, err
	}
	return &batched{conn, under}, info, nil
}

// Clone is part of credentials.TransportCredentials.
func (c *serverCredentials) Clone() credentials.TransportCredentials {
	return &serverCredentials{c.TransportCredentials.Clone(), c.source, c.level}
}

// ClientCredentials returns what a process dials others of its cluster with:
// it shows its certificate, and accepts only servers whose certificate is of
// one of the authorities, for the host that was dialled, and of role in the
// same cluster. REQUIRES: the source has a role.
func (s *Source) ClientCredentials(role pki.Role) credentials.TransportCredentials {
	if s.o.Role == "" {
		panic("tlsfile: client credentials of a source without a role")
	}
	return &clientCredentials{s, role, ""}
}

// ClientCredentialsOf is ClientCredentials for one owner: the server must also
// have that identity in its role.
func (s *Source) ClientCredentialsOf(role pki.Role, id int32) credentials.TransportCredentials {
	if s.o.Role == "" {
		panic("tlsfile: client credentials of a source without a role")
	}
	return &clientCredentials{s, role, strconv.Itoa(int(id))}
}

// clientCredentials makes new credentials for each handshake: the authorities
// may have changed.
type clientCredentials struct {
	source *Source
	role   pki.Role
	id     string // empty: anybody's
}

// ClientHandshake is part of credentials.TransportCredentials.
func (c *clientCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	m := c.source.current()
	now := c.source.o.Now
	once := credentials.NewTLS(&tls.Config{
		RootCAs: m.roots, MinVersion: tls.VersionTLS13, Time: now,
		// WHY: of Certificates, one is sent only if the server names its
		// authority; then a wrong authority would look like no certificate.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &m.pair, nil },
	})
	under := gather(raw, true)
	conn, info, err := once.ClientHandshake(ctx, authority, under)
	if err == nil {
		if err = c.check(info, m); err != nil {
			_ = conn.Close() // nothing was sent
		}
	}
	if err != nil {
		err = Explain(err, authority, now())
		c.source.refused(err, slog.LevelWarn, authority)
		return nil, nil, err
	}
	return &batched{conn, under}, info, nil
}

// check refuses a server that is not what was dialled.
func (c *clientCredentials) check(info credentials.AuthInfo, m *material) error {
	i, err := identityOf(info)
	if err != nil {
		return err
	}
	if i.Role != c.role {
		return &PeerError{Problem: WrongRole, Why: fmt.Sprintf("it is %s, not a %s: check the address", i, c.role)}
	}
	if err := sameCluster(i, m.identity); err != nil {
		return err
	}
	if c.id != "" && i.ID != c.id {
		return &PeerError{Problem: WrongID, Why: fmt.Sprintf("it is %s, not %s %s: check the address, and the certificate there", i, c.role, c.id)}
	}
	return nil
}

// ServerHandshake is part of credentials.TransportCredentials.
func (c *clientCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("tlsfile: credentials of a client do not serve")
}

// Info is part of credentials.TransportCredentials.
func (c *clientCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone is part of credentials.TransportCredentials.
func (c *clientCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName is part of credentials.TransportCredentials, and
// deprecated there.
func (c *clientCredentials) OverrideServerName(string) error {
	return errors.New("tlsfile: the name of a server is the one that is dialled")
}

// PeerIdentity returns who is at the other end of a call, as its verified
// certificate says. It fails with a *PeerError.
func PeerIdentity(ctx context.Context) (pki.Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return pki.Identity{}, &PeerError{Problem: NoCertificate, Why: "the caller is not known"}
	}
	return identityOf(p.AuthInfo)
}

// Peer is PeerIdentity, and refuses callers of another cluster.
func (s *Source) Peer(ctx context.Context) (pki.Identity, error) {
	i, err := PeerIdentity(ctx)
	if err != nil {
		return pki.Identity{}, err
	}
	return i, sameCluster(i, s.live.Load().identity)
}

// identityOf reads only chains that were verified: what a peer merely sent says
// nothing.
func identityOf(info credentials.AuthInfo) (pki.Identity, error) {
	t, ok := info.(credentials.TLSInfo)
	if !ok || len(t.State.VerifiedChains) == 0 || len(t.State.VerifiedChains[0]) == 0 {
		return pki.Identity{}, &PeerError{Problem: NoCertificate, Why: "it has shown no certificate"}
	}
	leaf := t.State.VerifiedChains[0][0]
	i, err := pki.IdentityOf(leaf)
	if err != nil {
		return pki.Identity{}, &PeerError{Problem: NoIdentity, Why: fmt.Sprintf("its certificate (%s) does not say whose it is: it %v", subject(leaf), err), Cause: err}
	}
	return i, nil
}

func sameCluster(i, own pki.Identity) error {
	if i.Cluster != own.Cluster {
		return &PeerError{Problem: WrongCluster, Why: fmt.Sprintf("it is %s, of another cluster than this process, %s", i, own)}
	}
	return nil
}
