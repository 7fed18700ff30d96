package ceiling

import (
	"crypto"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/tlsfile"
)

// spec is what a server of a round is told.
type spec struct {
	// ID is 0 for the leader, and counts followers from 1.
	ID int
	// Dir has the certificates, and the files.
	Dir string
	// Leader is where followers find it; "" for the leader.
	Leader string
	// Size is that of a message; there are so many Messages.
	Size, Messages int
	// Window is how many messages may wait for a follower.
	Window    int
	Followers int
	// Need is how many of them must have a message before it is answered.
	Need     int
	FromFile bool
	TLS      bool
}

func (s *spec) bytes() int64 { return int64(s.Size) * int64(s.Messages) }

// name is that of the server.
func (s *spec) name() string {
	if s.ID == 0 {
		return "leader"
	}
	return "follower-" + strconv.Itoa(s.ID)
}

// log is the file that it appends to.
func (s *spec) log() string { return filepath.Join(s.Dir, s.name()+".log") }

const (
	// clusterName is that in the certificates.
	clusterName = "ceiling"
	// certValid is longer than a run may take.
	certValid = 30 * 24 * time.Hour
	// loopback is where all of it is.
	loopback = "127.0.0.1"
)

// certificates are the names of the files of a server's certificate.
func (s *spec) certificates() tlsfile.Files {
	path := func(ext string) string { return filepath.Join(s.Dir, s.name()+ext) }
	return tlsfile.Files{Cert: path(".crt"), Key: path(".key"), CA: filepath.Join(s.Dir, "ca.crt")}
}

// source opens the certificate of a server, which is a broker's.
func (s *spec) source(log *slog.Logger) (*tlsfile.Source, error) {
	return tlsfile.Open(tlsfile.Options{
		Use: "internal", Files: s.certificates(), Role: pki.RoleBroker, ID: strconv.Itoa(s.ID), Logger: log,
	})
}

// issue makes certificates for the servers.
func issue(all []spec) error {
	now := time.Now()
	authority, err := pki.NewAuthority(clusterName, now, certValid)
	if err != nil {
		return err
	}
	for i := range all {
		s := &all[i]
		files := s.certificates()
		cert, key, err := authority.Issue(pki.Request{
			Role: pki.RoleBroker, ID: strconv.Itoa(s.ID), Hosts: []string{loopback}, NotAfter: authority.Cert.NotAfter,
		}, now)
		if err != nil {
			return err
		}
		if err := write(files.Cert, files.Key, cert, key); err != nil {
			return err
		}
		if err := os.WriteFile(files.CA, pki.EncodeCertificate(authority.Cert), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// write writes a certificate and its key.
func write(certFile, keyFile string, cert *x509.Certificate, key crypto.Signer) error {
	text, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(keyFile, text, 0o600); err != nil {
		return err
	}
	return os.WriteFile(certFile, pki.EncodeCertificate(cert), 0o600)
}
