package tlsfile

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millstream-io/millstream/server/pki"
)

// counted counts the calls of Write.
type counted struct {
	net.Conn
	writes atomic.Int32
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// speak returns both ends of a TLS connection over TCP, the first of which
// counts its writes.
func speak(t *testing.T) (client *batched, raw *counted, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // It is only listened on.
	ca, err := pki.NewAuthority("test", time.Now(), day)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue(pki.Request{Role: pki.RoleBroker, ID: "1", Hosts: []string{"127.0.0.1"}, NotAfter: time.Now().Add(day / 2)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			close(accepted)
			return
		}
		under := gather(conn, true)
		served := tls.Server(under, &tls.Config{Certificates: []tls.Certificate{pair}})
		_ = served.Handshake() // the other side says what is wrong
		accepted <- &batched{served, under}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw = &counted{Conn: conn}
	under := gather(raw, true)
	tlsConn := tls.Client(under, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // Who it is does not matter here.
	if err := tlsConn.Handshake(); err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	if server == nil {
		t.Fatal("nobody was accepted")
	}
	t.Cleanup(func() { _, _ = conn.Close(), server.Close() })
	return &batched{tlsConn, under}, raw, server
}

// A write of many records is one call of the system, whatever it holds comes
// over in order, and nothing is held back.
func TestARowOfRecordsIsWrittenAtOnce(t *testing.T) {
	client, raw, server := speak(t)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // Any bytes will do.
	for _, size := range []int{0, 1, 100, 16 << 10, 200 << 10, 1 << 20, 3} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		before := raw.writes.Load()
		go func() {
			if n, err := client.Write(b); n != size || err != nil {
				t.Errorf("%d bytes: wrote %d: %v", size, n, err)
			}
		}()
		got := make([]byte, size)
		if _, err := io.ReadFull(server, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, b) {
			t.Fatalf("%d bytes came over as others", size)
		}
		// The headers and tags of records come on top of what is written.
		if n, most := raw.writes.Load()-before, int32(2+size/(batchBytes-32<<10)); n > most {
			t.Errorf("%d bytes took %d writes", size, n)
		}
	}
	// The other way, for what the client reads ahead.
	go func() { _, _ = server.Write(make([]byte, 500<<10)) }()
	if _, err := io.ReadFull(client, make([]byte, 500<<10)); err != nil {
		t.Error(err)
	}
}

// A peer that reads nothing must not keep a connection from being closed.
func TestACloseDoesNotWaitForAWrite(t *testing.T) {
	client, raw, _ := speak(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := client.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}()
	for last := int32(-1); last != raw.writes.Load(); { // until it hangs
		last = raw.writes.Load()
		<-time.After(50 * time.Millisecond)
	}
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		_ = client.Close()
	}()
	for _, done := range []chan struct{}{begun, ended} {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("a close waits for a write that hangs")
		}
	}
}
