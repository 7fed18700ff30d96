package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func authority(t *testing.T, cluster string) *Authority { //nolint:unparam // its stories have one so far
	t.Helper()
	a, err := NewAuthority(cluster, now, 100*day)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What is issued verifies against its authority, for its hosts and uses, and
// says whose it is.
func TestIssuedCertificatesSayWhoseTheyAre(t *testing.T) {
	a := authority(t, "prod")
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, c := range []struct {
		request Request
		want    string
		uses    []x509.ExtKeyUsage
	}{
		{Request{Role: RoleBroker, ID: "1"}, "millstream://prod/broker/1", both},
		{Request{Role: RoleController, ID: "0"}, "millstream://prod/controller/0", both},
		{Request{Role: RoleServer, ID: "edge.1"}, "millstream://prod/server/edge.1", both[:1]},
		{Request{Role: RoleClient, ID: "Orders_svc"}, "millstream://prod/client/Orders_svc", both[1:]},
	} {
		c.request.Hosts, c.request.NotAfter = []string{"b1.example.org", "10.0.0.1", "::1"}, now.Add(day)
		cert, key, err := a.Issue(c.request, now)
		if err != nil {
			t.Fatal(err)
		}
		i, err := IdentityOf(cert)
		if err != nil || i.String() != c.want || i != (Identity{"prod", c.request.Role, c.request.ID}) {
			t.Errorf("got %s, %v, want %s", i, err, c.want)
		}
		if !SameKey(cert, key) {
			t.Errorf("%s: the key is of another certificate", i)
		}
		roots := x509.NewCertPool()
		roots.AddCert(a.Cert)
		for _, use := range both {
			for _, host := range []string{"b1.example.org", "10.0.0.1", "::1", "elsewhere.org"} {
				_, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
				if want := slices.Contains(c.uses, use) && host != "elsewhere.org"; (err == nil) != want {
					t.Errorf("%s for %s, use %v: %v", i, host, use, err)
				}
			}
		}
		// A clock that is behind by a little does not matter; the end does.
		for at, want := range map[time.Time]bool{now.Add(-59 * time.Minute): true, now.Add(-61 * time.Minute): false, now.Add(day): true, now.Add(day + time.Second): false} {
			_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			if (err == nil) != want {
				t.Errorf("%s at %s: %v", i, at, err)
			}
		}
	}
}

func TestAuthoritiesMakeNoOtherAuthorities(t *testing.T) {
	a := authority(t, "prod")
	if !a.Cert.MaxPathLenZero || a.Cert.MaxPathLen != 0 {
		t.Error("it may")
	}
	cert, _, err := a.Issue(Request{Role: RoleBroker, ID: "1", NotAfter: now.Add(day)}, now)
	if err != nil || cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Errorf("%v: what it issued may sign", err)
	}
}

func TestWhatCannotBeIssuedIsNamed(t *testing.T) {
	good := Request{Role: RoleBroker, ID: "1", NotAfter: now.Add(day)}
	for _, c := range []struct {
		name   string
		change func(*Request)
		now    time.Time
	}{
		{"role", func(r *Request) { r.Role = "king" }, now},
		{"id", func(r *Request) { r.ID = "" }, now},
		{"id", func(r *Request) { r.ID = "01" }, now},
		{"id", func(r *Request) { r.ID = "-1" }, now},
		{"id", func(r *Request) { r.ID = "1048576" }, now},
		{"id", func(r *Request) { r.ID = "b1" }, now},
		{"id", func(r *Request) { r.Role, r.ID = RoleClient, "a/b" }, now},
		{"id", func(r *Request) { r.Role, r.ID = RoleClient, strings.Repeat("x", 64) }, now},
		{"host", func(r *Request) { r.Hosts = []string{"h:9650"} }, now},
		{"host", func(r *Request) { r.Hosts = []string{""} }, now},
		{"host", func(r *Request) { r.Hosts = []string{"a b"} }, now},
		{"host", func(r *Request) { r.Hosts = make([]string, maxHosts+1) }, now},
		{"validity", func(r *Request) { r.NotAfter = now }, now},
		{"validity", func(r *Request) { r.NotAfter = now.Add(101 * day) }, now},
		{"authority", func(*Request) {}, now.Add(100 * day)},
	} {
		r := good
		c.change(&r)
		_, _, err := authority(t, "prod").Issue(r, c.now)
		if e, ok := errors.AsType[*InvalidError](err); !ok || e.Name != c.name {
			t.Errorf("%+v: got %v, want something about %s", r, err, c.name)
		}
	}
	for _, cluster := range []string{"", "Prod", "a.b", "-a", "a_b", strings.Repeat("x", 64)} {
		if _, err := NewAuthority(cluster, now, day); err == nil {
			t.Errorf("cluster %q was taken", cluster)
		}
	}
	if _, err := NewAuthority("prod", now, 0); err == nil {
		t.Error("an authority without validity was made")
	}
}

// An identity is read only in the one form that it is written in, and only if
// there is one.
func TestOnlyOneFormIsAnIdentity(t *testing.T) {
	for _, c := range []struct {
		uris []string
		want string
	}{
		{[]string{"millstream://prod/broker/1"}, "millstream://prod/broker/1"},
		{[]string{"spiffe://example.org/x", "millstream://prod/client/a.b"}, "millstream://prod/client/a.b"},
		{nil, ""},
		{[]string{"spiffe://prod/broker/1"}, ""},
		{[]string{"millstream://prod/broker/1", "millstream://prod/broker/2"}, ""},
		{[]string{"millstream://prod/broker/1", "MILLSTREAM://prod/broker/2"}, ""},
		{[]string{"millstream://prod/broker"}, ""},
		{[]string{"millstream://prod/broker/"}, ""},
		{[]string{"millstream://prod"}, ""},
		{[]string{"millstream://prod/broker/1/2"}, ""},
		{[]string{"millstream://prod/broker/1?x=y"}, ""},
		{[]string{"millstream://prod/broker/1#f"}, ""},
		{[]string{"millstream://user@prod/broker/1"}, ""},
		{[]string{"millstream://prod:1/broker/1"}, ""},
		{[]string{"millstream://prod/broker/%31"}, ""},
		{[]string{"millstream:prod/broker/1"}, ""},
		{[]string{"millstream://PROD/broker/1"}, ""},
		{[]string{"millstream://prod/king/1"}, ""},
	} {
		cert := &x509.Certificate{}
		for _, text := range c.uris {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		}
		i, err := IdentityOf(cert)
		if c.want == "" && err == nil || c.want != "" && i.String() != c.want {
			t.Errorf("%v: got %s, %v", c.uris, i, err)
		}
	}
}

func TestAuthoritiesAreReadBack(t *testing.T) {
	a, other := authority(t, "prod"), authority(t, "prod")
	leaf, leafKey, err := a.Issue(Request{Role: RoleBroker, ID: "1", NotAfter: now.Add(day)}, now)
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(a *Authority) []byte {
		key, err := EncodeKey(a.Key)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	got, err := ParseAuthority(EncodeCertificate(a.Cert), encoded(a))
	if err != nil || got.Cluster() != "prod" || !got.Cert.Equal(a.Cert) {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, _, err := got.Issue(Request{Role: RoleBroker, ID: "1", NotAfter: now.Add(day)}, now); err != nil {
		t.Error(err)
	}
	leafPEM := EncodeCertificate(leaf)
	for name, pair := range map[string][2][]byte{
		"key of another":    {EncodeCertificate(a.Cert), encoded(other)},
		"no authority":      {leafPEM, encoded(&Authority{Key: leafKey})},
		"key for cert":      {encoded(a), encoded(a)},
		"cert for key":      {EncodeCertificate(a.Cert), EncodeCertificate(a.Cert)},
		"nothing":           {nil, nil},
		"bytes for a cert":  {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), encoded(a)},
		"bytes for a key":   {EncodeCertificate(a.Cert), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})},
		"with a passphrase": {EncodeCertificate(a.Cert), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})},
	} {
		_, err := ParseAuthority(pair[0], pair[1])
		_, invalid := errors.AsType[*InvalidError](err)
		_, malformed := errors.AsType[*MalformedError](err)
		if !invalid && !malformed {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Keys in the forms that other programs write are read.
func TestKeysOfOtherProgramsAreRead(t *testing.T) {
	a := authority(t, "prod")
	ec, err := x509.MarshalECPrivateKey(mustEC(t, a))
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{1}}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec})...)
	key, err := ParseKey(text)
	if err != nil || !SameKey(a.Cert, key) {
		t.Errorf("got %v", err)
	}
}

func mustEC(t *testing.T, a *Authority) *ecdsa.PrivateKey {
	t.Helper()
	key, ok := a.Key.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("the key is a %T", a.Key)
	}
	return key
}
