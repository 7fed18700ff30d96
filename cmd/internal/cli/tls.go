package cli

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millstream-io/millstream/server/tlsfile"
)

// probeTimeout bounds the look whether a server speaks TLS.
const probeTimeout = 2 * time.Second

// speaksTLS tells whether the connection to the broker has TLS.
func (p *Program) speaksTLS() bool { return p.tls || p.tlsCA != "" }

// credentials returns those of connections to the broker.
func (p *Program) credentials() (credentials.TransportCredentials, error) {
	if !p.speaksTLS() {
		return insecure.NewCredentials(), nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12} // without RootCAs those of the system
	if p.tlsCA != "" {
		roots, err := tlsfile.Roots(p.tlsCA, time.Now())
		if err != nil {
			return nil, &hintError{err, "--tls-ca names the file of the authority of the broker's certificate"}
		}
		cfg.RootCAs = roots
	}
	return &toldCredentials{credentials.NewTLS(cfg), &p.dialed}, nil
}

// toldCredentials tell the dialer how handshakes went: gRPC makes text of the
// error.
type toldCredentials struct {
	credentials.TransportCredentials
	dialed *dialer
}

// ClientHandshake is part of credentials.TransportCredentials.
func (t *toldCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ClientHandshake(ctx, authority, raw)
	err = tlsfile.Explain(err, "", time.Now())
	t.dialed.shook(err)
	if err != nil {
		return nil, nil, err
	}
	return conn, info, nil
}

// Clone is part of credentials.TransportCredentials.
func (t *toldCredentials) Clone() credentials.TransportCredentials {
	return &toldCredentials{t.TransportCredentials.Clone(), t.dialed}
}

// serverSpeaksTLS tells whether a broker answers TLS: to be asked when
// nothing else was understood.
func (p *Program) serverSpeaksTLS() bool {
	d := &net.Dialer{Timeout: probeTimeout}
	for addr := range strings.SplitSeq(p.addr, ",") {
		// Nothing is sent but the handshake, and nothing that it says is trusted.
		conn, err := tls.DialWithDialer(d, "tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err == nil {
			_ = conn.Close()
			return true
		}
	}
	return false
}
