package etcd

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
)

// authorities is the file of those whose certificates a member trusts, as it was
// when the member was opened: etcd reads it once, into what it makes both its
// listener and its connections of, and has no place for anything of ours there
// (docs/operations/tls.md). Certificates and keys it reads for each connection.
type authorities struct {
	file string // empty: there is none
	sum  [sha256.Size]byte
	told [sha256.Size]byte // what Maintain has last said to be another
}

func readAuthorities(t *TLS) (authorities, error) {
	if t == nil {
		return authorities{}, nil
	}
	text, err := os.ReadFile(t.CA)
	sum := sha256.Sum256(text)
	return authorities{t.CA, sum, sum}, err
}

// now returns what the file comes to now; what it did at first, if it cannot be
// read: somebody is about to write it.
func (a *authorities) now() [sha256.Size]byte {
	if a.file == "" {
		return a.sum
	}
	text, err := os.ReadFile(a.file)
	if err != nil {
		return a.sum
	}
	return sha256.Sum256(text)
}

// StaleAuthorities tells whether the authorities in the file are others than those
// whose certificates this member trusts, until it is opened again.
func (m *Member) StaleAuthorities() bool { return m.trusted.now() != m.trusted.sum }

// tellStale says once of each change that it is not in force yet.
func (m *Member) tellStale(ctx context.Context) {
	now := m.trusted.now()
	if now == m.trusted.told {
		return
	}
	m.trusted.told = now
	if now != m.trusted.sum {
		m.logger.WarnContext(ctx, "the authorities of internal certificates have changed: between controllers those of before are trusted until this one is started again; restart one after the other",
			slog.String("file", m.trusted.file))
	}
}
