package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"time"
)

// clockSkew is how far the clock of a peer may be behind that of the machine
// that issues: what is issued is valid since then.
const clockSkew = time.Hour

// maxHosts bounds the names in a certificate, which is sent at each handshake.
const maxHosts = 100

// Authority issues certificates. Its methods may be called concurrently.
type Authority struct {
	// Cert is its certificate, signed by itself.
	Cert *x509.Certificate
	// Key signs.
	Key crypto.Signer

	cluster string
}

// NewAuthority makes an authority for a cluster with a new key. It fails with
// an *InvalidError.
func NewAuthority(cluster string, now time.Time, valid time.Duration) (*Authority, error) {
	if err := ValidateCluster(cluster); err != nil {
		return nil, err
	}
	if valid <= 0 {
		return nil, &InvalidError{"validity", "must be more than 0"}
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Millstream authority of " + cluster, Organization: []string{cluster}},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(valid),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, // it makes no other authorities
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{{Scheme: Scheme, Host: cluster}},
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Authority{Cert: cert, Key: key, cluster: cluster}, nil
}

// ParseAuthority reads the certificate and the key of an authority that
// NewAuthority made, both as PEM text. It fails with a *MalformedError or an
// *InvalidError.
func ParseAuthority(cert, key []byte) (*Authority, error) {
	certs, err := ParseCertificates(cert)
	if err != nil {
		return nil, err
	}
	signer, err := ParseKey(key)
	if err != nil {
		return nil, err
	}
	cluster, err := ClusterOf(certs[0])
	switch {
	case err != nil:
		return nil, &InvalidError{"authority", "was not made by 'millstream cert ca': it has no URI " + Scheme + "://CLUSTER"}
	case !certs[0].IsCA:
		return nil, &InvalidError{"authority", "may not sign certificates"}
	case !SameKey(certs[0], signer):
		return nil, &InvalidError{"authority", "has the private key of another certificate"}
	}
	return &Authority{Cert: certs[0], Key: signer, cluster: cluster}, nil
}

// Cluster is the name of the cluster that the authority is for.
func (a *Authority) Cluster() string { return a.cluster }

// Request says what certificate is wanted.
type Request struct {
	Role Role
	ID   string
	// Hosts are the DNS names and IP addresses that its owner is reached by.
	Hosts []string
	// NotAfter is when it ends; not later than the authority does.
	NotAfter time.Time
}

// Issue makes a certificate with a new key. It fails with an *InvalidError.
func (a *Authority) Issue(r Request, now time.Time) (*x509.Certificate, crypto.Signer, error) {
	r.NotAfter = r.NotAfter.Truncate(time.Second) // as certificates have it
	i := Identity{Cluster: a.cluster, Role: r.Role, ID: r.ID}
	if err := i.Validate(); err != nil {
		return nil, nil, err
	}
	switch {
	case !now.Before(a.Cert.NotAfter):
		return nil, nil, &InvalidError{"authority", fmt.Sprintf("expired at %s: make another with 'millstream cert ca'", stamp(a.Cert.NotAfter))}
	case !r.NotAfter.After(now):
		return nil, nil, &InvalidError{"validity", fmt.Sprintf("would end at %s, which is past", stamp(r.NotAfter))}
	case r.NotAfter.After(a.Cert.NotAfter):
		return nil, nil, &InvalidError{"validity", fmt.Sprintf("would end at %s, after that of the authority at %s", stamp(r.NotAfter), stamp(a.Cert.NotAfter))}
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: string(r.Role) + " " + r.ID, Organization: []string{a.cluster}},
		NotBefore: now.Add(-clockSkew), NotAfter: r.NotAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usage(r.Role),
		URIs:                  []*url.URL{i.uri()},
	}
	if err := addHosts(template, r.Hosts); err != nil {
		return nil, nil, err
	}
	if r.Role == RoleController {
		template.DNSNames = append(template.DNSNames, RoleHost(a.cluster, r.Role))
	}
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	cert, err := sign(template, a.Cert, key.Public(), a.Key)
	if err != nil {
		return nil, nil, err
	}
	return cert, key, nil
}

// usage is which ends of a connection the owners of a role are.
func usage(r Role) []x509.ExtKeyUsage {
	switch r {
	case RoleServer:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case RoleClient:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	default: // brokers and controllers dial each other
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
}

// dnsName is a host name; its first label may be a wildcard.
var dnsName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

func addHosts(template *x509.Certificate, hosts []string) error {
	if len(hosts) > maxHosts {
		return &InvalidError{"host", fmt.Sprintf("is there %d times: at most %d are taken", len(hosts), maxHosts)}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		if len(h) > 253 || !dnsName.MatchString(h) {
			return &InvalidError{"host", fmt.Sprintf("%q is neither a DNS name nor an IP address", h)}
		}
		template.DNSNames = append(template.DNSNames, h)
	}
	return nil
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a private key: %w", err)
	}
	return key, nil
}

// sign returns a certificate with a random serial number.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
