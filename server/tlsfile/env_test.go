package tlsfile

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/server/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// env is a directory of certificates, and a clock.
type env struct {
	t   *testing.T
	dir string
	log lockedBuffer

	mu  sync.Mutex // guards now
	now time.Time
}

func newEnv(t *testing.T) *env {
	return &env{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
}

// clock is the time of day.
func (e *env) clock() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

func (e *env) pass(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = e.now.Add(d)
}

// authority makes an authority and puts it into NAME.ca.
func (e *env) authority(name, cluster string) *pki.Authority { //nolint:unparam // its stories have one so far
	e.t.Helper()
	a, err := pki.NewAuthority(cluster, e.clock(), 1000*day)
	e.check(err)
	e.write(name+".ca", pki.EncodeCertificate(a.Cert))
	return a
}

// issue makes a certificate valid for 10 days from at on and puts it into
// NAME.crt and NAME.key.
func (e *env) issue(a *pki.Authority, name string, role pki.Role, id string, at time.Time, hosts ...string) {
	e.t.Helper()
	cert, key, err := a.Issue(pki.Request{Role: role, ID: id, Hosts: hosts, NotAfter: at.Add(10 * day)}, at)
	e.check(err)
	e.put(name, cert, key)
}

func (e *env) put(name string, cert *x509.Certificate, key crypto.Signer) {
	e.t.Helper()
	text, err := pki.EncodeKey(key)
	e.check(err)
	e.write(name+".crt", pki.EncodeCertificate(cert))
	e.write(name+".key", text)
}

func (e *env) path(name string) string { return filepath.Join(e.dir, name) }

func (e *env) write(name string, text []byte) {
	e.t.Helper()
	e.check(os.WriteFile(e.path(name), text, 0o600))
}

func (e *env) read(name string) []byte {
	e.t.Helper()
	b, err := os.ReadFile(e.path(name))
	e.check(err)
	return b
}

func (e *env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// options are those of a source of NAME's files that trusts CA's.
func (e *env) options(name, ca string, role pki.Role, id string) Options {
	o := Options{
		Use: "internal", Files: Files{Cert: e.path(name + ".crt"), Key: e.path(name + ".key")}, Role: role, ID: id,
		Now: e.clock, Logger: slog.New(slog.NewTextHandler(&e.log, nil)),
	}
	if ca != "" {
		o.Files.CA = e.path(ca + ".ca")
	}
	return o
}

func (e *env) open(name, ca string, role pki.Role, id string) *Source {
	e.t.Helper()
	s, err := Open(e.options(name, ca, role, id))
	e.check(err)
	return s
}

// logged returns how many lines of the log have text.
func (e *env) logged(text string) int {
	n := 0
	for line := range strings.Lines(e.log.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// metric returns the sum of a metric over its labels.
func (e *env) metric(reg *prometheus.Registry, name string) float64 {
	e.t.Helper()
	families, err := reg.Gather()
	e.check(err)
	for _, f := range families {
		if f.GetName() != "millstream_tls_"+name {
			continue
		}
		sum := 0.0
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		return sum
	}
	e.t.Fatalf("there is no metric %s", name)
	return 0
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
