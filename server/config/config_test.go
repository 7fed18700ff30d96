package config_test

import (
	"strings"
	"testing"

	"github.com/millstream-io/millstream/server/config"
)

func TestDefaultsAreValid(t *testing.T) {
	c := config.Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeIsNamed(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*config.Config)
	}{
		{"id ", func(c *config.Config) { c.BrokerID = -1 }},
		{"controllers", func(c *config.Config) { c.Controllers = nil }},
		{"controllers", func(c *config.Config) { c.Controllers = []string{"x"} }},
		{"advertised-addr", func(c *config.Config) { c.AdvertisedAddr = "x" }},
		{"internal-addr", func(c *config.Config) { c.InternalAddr = "" }},
		{"internal-addr", func(c *config.Config) { c.InternalAddr = "0.0.0.0:9652" }},
		{"internal-advertised-addr", func(c *config.Config) { c.InternalAdvertisedAddr = "x" }},
		{"data-dir", func(c *config.Config) { c.DataDir = "" }},
		{"grpc-addr", func(c *config.Config) { c.GRPCAddr = "9650" }},
		{"http-addr", func(c *config.Config) { c.HTTPAddr = "h:99999" }},
		{"--insecure", func(c *config.Config) { c.GRPCAddr = ":9650" }},
		{"--insecure", func(c *config.Config) { c.HTTPAddr = "0.0.0.0:9651" }},
		{"--insecure", func(c *config.Config) { c.HTTPAddr = "broker.example.org:9651" }},
		{"--tls-cert", func(c *config.Config) { c.GRPCAddr = ":9650" }},
		{"tls-key", func(c *config.Config) { c.TLSCert = "x" }},
		{"tls-cert", func(c *config.Config) { c.TLSKey = "x" }},
		{"--internal-tls-cert", func(c *config.Config) { c.Controllers = []string{"127.0.0.1:1", "c1.example.org:9653"} }},
		{"--insecure", func(c *config.Config) { c.Controllers = []string{"10.0.0.1:9653"} }},
		{"internal-tls-cert", func(c *config.Config) { c.InternalTLSKey, c.InternalTLSCA = "x", "x" }},
		{"internal-tls-key", func(c *config.Config) { c.InternalTLSCert, c.InternalTLSCA = "x", "x" }},
		{"internal-tls-ca", func(c *config.Config) { c.InternalTLSCert, c.InternalTLSKey = "x", "x" }},
		{"stop-timeout", func(c *config.Config) { c.StopTimeout = 0 }},
		{"log-level", func(c *config.Config) { c.LogLevel = "loud" }},
		{"log-format", func(c *config.Config) { c.LogFormat = "xml" }},
		{"max-connections", func(c *config.Config) { c.MaxConnections = 0 }},
		{"max-streams", func(c *config.Config) { c.MaxStreams = 0 }},
		{"inflight-bytes", func(c *config.Config) { c.InFlightBytes = 0 }},
		{"stream-inflight-bytes", func(c *config.Config) { c.StreamInFlightBytes = 1 << 40 }},
		{"stream-inflight-bytes", func(c *config.Config) { c.StreamInFlightBytes = 1 }},
		{"fetch-inflight-bytes", func(c *config.Config) { c.FetchInFlightBytes = 1 << 20 }},
		{"fetch-frame-bytes", func(c *config.Config) { c.FetchFrameBytes = 2 << 20 }},
		{"stall-timeout", func(c *config.Config) { c.StallTimeout = -1 }},
		{"max-open-files", func(c *config.Config) { c.MaxOpenFiles = -1 }},
		{"max-syncs", func(c *config.Config) { c.MaxSyncs = 0 }},
		{"replica-lag", func(c *config.Config) { c.ReplicaLag = 0 }},
		{"retention-interval", func(c *config.Config) { c.RetentionInterval = 0 }},
		{"trash-keep", func(c *config.Config) { c.TrashKeep = -1 }},
		{"disk-high-water-percent", func(c *config.Config) { c.DiskHighWaterPercent = 101 }},
	} {
		cfg := config.Default()
		c.change(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want something about %s", err, c.want)
		}
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	c := config.Default()
	c.BrokerID, c.MaxSyncs = -1, 0
	err := c.Validate()
	if err == nil || !strings.Contains(err.Error(), "id must") || !strings.Contains(err.Error(), "max-syncs") {
		t.Errorf("got %v", err)
	}
}

func TestOtherMachinesOnlyIfAllowed(t *testing.T) {
	for addr, allowed := range map[string]bool{
		"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "127.1.2.3:0": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "example.org:1": false,
	} {
		if got := config.IsLoopback(addr); got != allowed {
			t.Errorf("%s: got %v", addr, got)
		}
	}
	c := config.Default()
	c.GRPCAddr, c.Insecure = "0.0.0.0:9650", true
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// With TLS no permission is needed, on either side.
func TestOtherMachinesWithTLS(t *testing.T) {
	c := config.Default()
	c.GRPCAddr, c.HTTPAddr, c.TLSCert, c.TLSKey = "0.0.0.0:9650", ":9651", "b.crt", "b.key"
	c.Controllers = []string{"c0.example.org:9653"}
	c.InternalTLSCert, c.InternalTLSKey, c.InternalTLSCA = "i.crt", "i.key", "ca.crt"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Bytes{"0": 0, "1": 1, "4096": 4096, "4KiB": 4096, "16MiB": 16 << 20, "3GiB": 3 << 30} {
		var b config.Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: got %d, %v", text, b, err)
		}
	}
	for b, want := range map[config.Bytes]string{0: "0", 1: "1", 1025: "1025", 4096: "4KiB", 3 << 30: "3GiB", 1 << 20: "1MiB"} {
		if b.String() != want {
			t.Errorf("%d: got %s", int64(b), b)
		}
	}
	for _, text := range []string{"", "x", "-1", "1kb", "1 MiB", "1.5MiB", "99999999999GiB", "KiB"} {
		var b config.Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken as %d", text, b)
		}
	}
}
