package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Types of PEM blocks.
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY" // PKCS 8; others are read too
)

// MalformedError says that text is not what it should be in PEM form.
type MalformedError struct {
	// Want is what it should have: a certificate, a private key.
	Want string
	// Why it does not.
	Why string
}

// Error says it for people.
func (e *MalformedError) Error() string { return "has no " + e.Want + " that can be read: " + e.Why }

// ParseCertificates returns the certificates in PEM text, in order; at least
// one. It fails with a *MalformedError.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	var others []string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certificateBlock {
			others = append(others, block.Type)
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &MalformedError{"certificate", err.Error()}
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, &MalformedError{"certificate", found(certificateBlock, others)}
	}
	return certs, nil
}

// ParseKey returns the private key in PEM text. It fails with a
// *MalformedError.
func ParseKey(text []byte) (crypto.Signer, error) {
	var others []string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, keyBlock) || strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			others = append(others, block.Type)
			continue
		}
		key, err := parseKey(block.Bytes)
		if err != nil {
			return nil, &MalformedError{"private key", err.Error()}
		}
		return key, nil
	}
	return nil, &MalformedError{"private key", found(keyBlock, others)}
}

func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if s, ok := key.(crypto.Signer); ok {
			return s, nil
		}
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	return nil, errors.New("it is neither PKCS 8 nor PKCS 1 nor SEC 1")
}

// found says what there is instead of a block. An encrypted key is named as
// such by its block.
func found(want string, blocks []string) string {
	if len(blocks) == 0 {
		return "it has no PEM block " + want
	}
	return fmt.Sprintf("it has no PEM block %s without a passphrase, but %s", want, strings.Join(blocks, ", "))
}

// EncodeCertificate returns a certificate as PEM text.
func EncodeCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: cert.Raw})
}

// EncodeKey returns a private key as PEM text.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

// SameKey tells whether a certificate is that of a private key.
func SameKey(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}
