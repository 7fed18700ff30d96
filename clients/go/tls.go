package millstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// errNoCertificate says that a file of authorities has none.
var errNoCertificate = errors.New("has no certificate in PEM form")

// TLSCAError says that the file of authorities cannot be used.
type TLSCAError struct {
	// File is Options.TLSCA.
	File string
	// Cause is what is wrong with it.
	Cause error
}

// Error says which file and what is wrong with it.
func (e *TLSCAError) Error() string { return fmt.Sprintf("millstream: TLSCA %s: %v", e.File, e.Cause) }

// Unwrap returns what is wrong.
func (e *TLSCAError) Unwrap() error { return e.Cause }

// credentials returns what the options say of TLS.
func (o *Options) credentials() (credentials.TransportCredentials, error) {
	if o.TLSCA == "" && o.TLS == nil {
		return insecure.NewCredentials(), nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		cfg = o.TLS.Clone()
	}
	if o.TLSCA != "" {
		text, err := os.ReadFile(o.TLSCA)
		if err != nil {
			return nil, &TLSCAError{o.TLSCA, err}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, &TLSCAError{o.TLSCA, errNoCertificate}
		}
	}
	return credentials.NewTLS(cfg), nil
}
