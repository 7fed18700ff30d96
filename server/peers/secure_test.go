package peers

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/tlsfile"
)

// source returns the certificate of a member of the cluster.
func (e *env) source(a *pki.Authority, role pki.Role, id int32) *tlsfile.Source {
	e.t.Helper()
	now, dir := time.Now(), e.t.TempDir()
	cert, key, err := a.Issue(pki.Request{Role: role, ID: strconv.Itoa(int(id)), Hosts: []string{"127.0.0.1"}, NotAfter: now.Add(time.Hour)}, now)
	e.check(err)
	text, err := pki.EncodeKey(key)
	e.check(err)
	files := tlsfile.Files{Cert: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
	e.check(os.WriteFile(files.Cert, pki.EncodeCertificate(cert), 0o600))
	e.check(os.WriteFile(files.Key, text, 0o600))
	e.check(os.WriteFile(files.CA, pki.EncodeCertificate(a.Cert), 0o600))
	s, err := tlsfile.Open(tlsfile.Options{Use: "internal", Files: files, Role: role, ID: strconv.Itoa(int(id)), Logger: slog.New(slog.DiscardHandler)})
	e.check(err)
	return s
}

// Whoever listens where a broker should be has to show that it is that one.
func TestABrokerShowsWhoItIs(t *testing.T) {
	a, err := pki.NewAuthority("prod", time.Now(), 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	e := newEnv(t)
	own := e.source(a, pki.RoleBroker, 1)
	e.peers.o.Credentials = func(id int32) credentials.TransportCredentials { return own.ClientCredentialsOf(pki.RoleBroker, id) }
	serve := func(id int32, role pki.Role, shown int32) {
		creds := e.source(a, role, shown).ServerCredentials(slog.LevelDebug)
		e.registered(id, int64(id)*10, e.process("127.0.0.1:0", creds).addr, false)
	}
	serve(2, pki.RoleBroker, 2)
	serve(3, pki.RoleBroker, 2)
	serve(4, pki.RoleController, 4)
	e.check(ask(t, e.conn(2)))
	for id, why := range map[int32]string{3: "broker/2, not broker 3", 4: "controller/4, not a broker"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := grpc_health_v1.NewHealthClient(e.conn(id)).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		cancel()
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("who is where broker %d should be: %v, want %s", id, err, why)
		}
	}
}
