package millstream_test

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// A client speaks TLS with servers that TLSCA vouches for, and with no others.
func TestTLSCA(t *testing.T) {
	var calls atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	trusted := write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	// reached tells whether a call came through.
	reached := func(o millstream.Options) bool {
		t.Helper()
		o.Addr = "passthrough:///" + s.Listener.Addr().String()
		c, err := millstream.New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		before := calls.Load()
		if _, err := c.Cluster().DescribeCluster(inTime(t), &pb.DescribeClusterRequest{}); err == nil {
			t.Error("the server is not one of ours, and answered")
		}
		return calls.Load() > before
	}
	if !reached(millstream.Options{TLSCA: trusted}) {
		t.Error("a server that is vouched for was not called")
	}
	if reached(millstream.Options{}) {
		t.Error("a server with TLS was called without")
	}
	if reached(millstream.Options{TLS: new(tls.Config)}) { // this system does not know it either
		t.Error("a server that nobody vouches for was called")
	}

	for _, file := range []string{filepath.Join(dir, "none"), write("text", []byte("hello"))} {
		_, err := millstream.New(millstream.Options{TLSCA: file})
		if e, ok := errors.AsType[*millstream.TLSCAError](err); !ok || e.File != file {
			t.Errorf("%s: got %v", file, err)
		}
	}
	if _, err := millstream.New(millstream.Options{TLSCA: filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
