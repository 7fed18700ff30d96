package cli

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/millstream-io/millstream/server/pki"
)

// Names of the files of an authority in its directory.
const (
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
)

// localHosts are what a certificate is for if nobody says otherwise.
var localHosts = []string{"localhost", "127.0.0.1", "::1"}

func (p *Program) certCommand() *cobra.Command {
	c := group("cert", "Make an authority and certificates, and look at them", p.certCA(), p.certIssue(), p.certShow())
	c.Long = `Make an authority of your own and certificates of it, for those who have none,
and look at certificates. docs/operations/tls.md says where they go.`
	return c
}

// existsError says that a file would be overwritten.
type existsError struct{ file string }

// Error says what to do.
func (e *existsError) Error() string {
	return e.file + " exists, and was left as it is: choose another directory, or replace it with --force"
}

func (p *Program) certCA() *cobra.Command {
	var out, name string
	var days int
	var force bool
	c := &cobra.Command{
		Use: "ca", Short: "Make an authority that signs the certificates of a cluster",
		Long: `Make an authority that signs the certificates of one cluster: ca.crt, which
everybody may have, and ca.key, which nobody but you may. Keep ca.key away from
servers: who has it can be any of them.`,
		Example: "  millstream cert ca --out pki --name prod",
		Args:    takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			valid, err := validDays(c, out, days)
			if err != nil {
				return err
			}
			a, err := pki.NewAuthority(name, time.Now(), valid)
			if err != nil {
				return badCert(c, err)
			}
			if err := writePair(out, "ca", a.Cert, a.Key, force); err != nil {
				return err
			}
			return p.showCerts(c, filepath.Join(out, authorityCert), a.Cert)
		},
	}
	c.Flags().StringVar(&out, "out", "", "`DIR` that gets ca.crt and ca.key; it is made if need be")
	c.Flags().StringVar(&name, "name", "millstream", "`NAME` of the cluster in its certificates: a-z, 0-9 and '-'")
	c.Flags().IntVar(&days, "days", 3650, "how long it is valid")
	c.Flags().BoolVar(&force, "force", false, "replace an authority that is there; nothing that it signed is accepted any more")
	return c
}

func (p *Program) certIssue() *cobra.Command {
	var ca, role, id, out string
	var hosts []string
	var days int
	var force bool
	c := &cobra.Command{
		Use: "issue", Short: "Issue a certificate of an authority made by cert ca",
		Long: `Issue a certificate with a new key: ROLE-ID.crt and ROLE-ID.key, and a copy of
the authority's ca.crt beside them, so that the directory is all that its owner
needs. It says who its owner is: millstream://CLUSTER/ROLE/ID.

  broker, controller  between processes; the id is their --id
  server              the public listeners of brokers
  client              a client that has to show one`,
		Example: `  millstream cert issue --ca pki --role controller --id 0 --host c0.example.org --out c0
  millstream cert issue --ca pki --role broker --id 1 --host b1.example.org --out b1
  millstream cert issue --ca pki --role server --id b1 --host b1.example.org --out b1`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			for _, f := range []struct{ name, value string }{{"ca", ca}, {"role", role}, {"id", id}} {
				if f.value == "" {
					return misuse(c, "--%s is missing", f.name)
				}
			}
			valid, err := validDays(c, out, days)
			if err != nil {
				return err
			}
			a, err := readAuthority(ca)
			if err != nil {
				return err
			}
			now := time.Now()
			r := pki.Request{Role: pki.Role(role), ID: id, Hosts: hosts, NotAfter: now.Add(valid)}
			if len(hosts) == 0 && r.Role != pki.RoleClient {
				r.Hosts = localHosts
			}
			if !c.Flags().Changed("days") && r.NotAfter.After(a.Cert.NotAfter) {
				r.NotAfter = a.Cert.NotAfter
			}
			cert, key, err := a.Issue(r, now)
			if err != nil {
				return badCert(c, err)
			}
			if err := placeAuthority(out, ca, a.Cert); err != nil {
				return err
			}
			name := role + "-" + id
			if err := writePair(out, name, cert, key, force); err != nil {
				return err
			}
			return p.showCerts(c, filepath.Join(out, name+".crt"), cert)
		},
	}
	c.Flags().StringVar(&ca, "ca", "", "`DIR` of the authority")
	c.Flags().StringVar(&role, "role", "", "`ROLE` of its owner: broker, controller, server or client")
	c.Flags().StringVar(&id, "id", "", "`ID` of its owner: a number for brokers and controllers, a name for others")
	c.Flags().StringArrayVar(&hosts, "host", nil, "`NAME` or IP address that its owner is reached by; may be repeated (default localhost, 127.0.0.1, ::1)")
	c.Flags().StringVar(&out, "out", "", "`DIR` that gets the files; it is made if need be")
	c.Flags().IntVar(&days, "days", 365, "how long it is valid; not longer than the authority")
	c.Flags().BoolVar(&force, "force", false, "replace a certificate and key that are there")
	return c
}

func (p *Program) certShow() *cobra.Command {
	return &cobra.Command{
		Use: "show FILE", Short: "Show whose certificates are in a file, and when they expire",
		Example: "  millstream cert show b1/broker-1.crt",
		Args:    takes("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			certs, err := pki.ParseCertificates(text)
			if err != nil {
				return fmt.Errorf("%s %w", args[0], err)
			}
			return p.showCerts(c, args[0], certs...)
		},
	}
}

// validDays checks what both commands that make certificates take.
func validDays(c *cobra.Command, out string, days int) (time.Duration, error) {
	const most = 100 * 365
	switch {
	case out == "":
		return 0, misuse(c, "--out is missing")
	case days < 1 || days > most:
		return 0, misuse(c, "--days must be 1 to %d", most)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// badCert makes a usage error of what cannot stand in a certificate.
func badCert(c *cobra.Command, err error) error {
	e, ok := errors.AsType[*pki.InvalidError](err)
	if !ok {
		return err
	}
	flag, ok := map[string]string{"cluster": "--name", "role": "--role", "id": "--id", "host": "--host", "validity": "--days"}[e.Name]
	if !ok {
		return err
	}
	return misuse(c, "%s: %s %s", flag, e.Name, e.Why)
}

func readAuthority(dir string) (*pki.Authority, error) {
	cert, err := os.ReadFile(filepath.Join(dir, authorityCert))
	var key []byte
	if err == nil {
		key, err = os.ReadFile(filepath.Join(dir, authorityKey))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &hintError{err, "make an authority with: millstream cert ca --out " + dir}
	}
	if err != nil {
		return nil, err
	}
	a, err := pki.ParseAuthority(cert, key)
	if err != nil {
		return nil, fmt.Errorf("authority in %s: %w", dir, err)
	}
	return a, nil
}

// placeAuthority puts a copy of the authority's certificate into dir, unless it
// is there among others.
func placeAuthority(dir, ca string, cert *x509.Certificate) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := filepath.Join(dir, authorityCert)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return writeNew(name, pki.EncodeCertificate(cert), 0o644)
	}
	if err != nil {
		return err
	}
	there, err := pki.ParseCertificates(text)
	if err != nil {
		return fmt.Errorf("%s %w", name, err)
	}
	for _, t := range there {
		if t.Equal(cert) {
			return nil
		}
	}
	return &hintError{fmt.Errorf("%s has other authorities than this one", name), "choose another directory, or add " + filepath.Join(ca, authorityCert) + " to it"}
}

// writePair writes NAME.crt and NAME.key into dir. Files that are there are
// replaced only by force; a process that reads them between the two sees a
// pair that does not fit, and keeps what it has.
func writePair(dir, name string, cert *x509.Certificate, key crypto.Signer, force bool) error {
	keyText, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files := []struct {
		name string
		text []byte
		mode fs.FileMode
	}{
		{filepath.Join(dir, name+".key"), keyText, 0o600},
		{filepath.Join(dir, name+".crt"), pki.EncodeCertificate(cert), 0o644},
	}
	if force {
		for _, f := range files {
			if err := renameio.WriteFile(f.name, f.text, f.mode); err != nil {
				return err
			}
		}
		return nil
	}
	for _, f := range files { // all or none
		if _, err := os.Lstat(f.name); err == nil {
			return &existsError{f.name}
		}
	}
	for _, f := range files {
		if err := writeNew(f.name, f.text, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// writeNew writes a file that does not exist.
func writeNew(name string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return &existsError{name}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// certView is a certificate as JSON and YAML show it.
type certView struct {
	File        string   `json:"file"`
	Identity    string   `json:"identity"`
	Cluster     string   `json:"cluster"`
	Role        string   `json:"role"`
	ID          string   `json:"id"`
	Subject     string   `json:"subject"`
	Issuer      string   `json:"issuer"`
	Authority   bool     `json:"authority"`
	Hosts       []string `json:"hosts"`
	NotBefore   string   `json:"not_before"`
	NotAfter    string   `json:"not_after"`
	State       string   `json:"state"`
	Fingerprint string   `json:"sha256"`
}

func newCertView(file string, cert *x509.Certificate, now time.Time) certView {
	sum := sha256.Sum256(cert.Raw)
	v := certView{
		File: file, Subject: cert.Subject.String(), Issuer: cert.Issuer.String(), Authority: cert.IsCA, Hosts: append([]string{}, cert.DNSNames...),
		NotBefore: cert.NotBefore.UTC().Format(time.RFC3339), NotAfter: cert.NotAfter.UTC().Format(time.RFC3339),
		Fingerprint: hex.EncodeToString(sum[:]),
	}
	for _, ip := range cert.IPAddresses {
		v.Hosts = append(v.Hosts, ip.String())
	}
	if i, err := pki.IdentityOf(cert); err == nil {
		v.Identity, v.Cluster, v.Role, v.ID = i.String(), i.Cluster, string(i.Role), i.ID
	} else if cluster, err := pki.ClusterOf(cert); err == nil && cert.IsCA {
		v.Cluster, v.Role = cluster, "authority"
	}
	switch left := cert.NotAfter.Sub(now); {
	case left < 0:
		v.State = "expired"
	case now.Before(cert.NotBefore):
		v.State = "not valid yet"
	default:
		v.State = "valid for " + counted(int(left.Hours()/24), "day", "days")
	}
	return v
}

// showCerts prints the certificates of a file.
func (p *Program) showCerts(c *cobra.Command, file string, certs ...*x509.Certificate) error {
	views := make([]certView, len(certs))
	t := &table{header: []string{"FILE", "CLUSTER", "ROLE", "ID", "HOSTS", "EXPIRES", "STATE"}}
	for i, cert := range certs {
		v := newCertView(file, cert, time.Now())
		views[i] = v
		t.add(v.File, v.Cluster, v.Role, v.ID, strings.Join(v.Hosts, ","), v.NotAfter, v.State)
	}
	return p.show(c, views, t)
}
