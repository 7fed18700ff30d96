package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/controller/config"
)

func TestDefaultsAreValid(t *testing.T) {
	c := config.Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	for _, addr := range []string{"127.0.0.1:9654", "localhost:0", "[::1]:9654"} {
		if c.HTTPAddr = addr; c.Validate() != nil {
			t.Errorf("%s: %v", addr, c.Validate())
		}
	}
	c.ControllerAddr, c.Insecure = ":9653", true
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Insecure, c.InternalTLSCert, c.InternalTLSKey, c.InternalTLSCA = false, "c.crt", "c.key", "ca.crt"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func peers(ids ...int) []string {
	var ps []string
	for _, id := range ids {
		ps = append(ps, fmt.Sprintf("%d=c%d:2380", id, id))
	}
	return ps
}

func TestThreeOrFiveControllersFindEachOther(t *testing.T) {
	for _, ids := range [][]int{{0}, {0, 1, 2}, {0, 1, 2, 3, 4}} {
		c := config.Default()
		c.Peers, c.PeerAddr = peers(ids...), "127.0.0.1:2380"
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		if got, err := c.PeerList(); err != nil || len(got) != len(ids) || got[0] != (config.Peer{ID: 0, URL: "http://c0:2380"}) {
			t.Error(got, err)
		}
	}
	c := config.Default()
	c.Peers, c.PeerAddr, c.Join = peers(0, 1), "127.0.0.1:2380", true // the second is being added
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWhereBrokersReachAController(t *testing.T) {
	for _, c := range []struct{ listening, advertised, id, want string }{
		{"10.0.0.1:9653", "", "0", "10.0.0.1:9653"},
		{"10.0.0.1:9653", "c0.example.org:1", "0", "c0.example.org:1"},
		{"[::]:9653", "", "1", "c1:9653"},
		{"0.0.0.0:9653", "", "2", "c2:9653"},
		{"0.0.0.0:9653", "", "7", ""},
		{"in process", "", "0", ""},
	} {
		cfg := config.Default()
		cfg.Peers, cfg.AdvertisedAddr = peers(0, 1, 2), c.advertised
		if _, err := fmt.Sscan(c.id, &cfg.ControllerID); err != nil {
			t.Fatal(err)
		}
		if got := cfg.Serves(c.listening); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestWhatCannotBeIsNamed(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*config.Config)
	}{
		{"id ", func(c *config.Config) { c.ControllerID = -1 }},
		{"data-dir", func(c *config.Config) { c.DataDir = "" }},
		{"addr ", func(c *config.Config) { c.ControllerAddr = "x" }},
		{"addr ", func(c *config.Config) { c.ControllerAddr = "x:y" }},
		{"advertised-addr", func(c *config.Config) { c.AdvertisedAddr = ":9653" }},
		{"http-addr", func(c *config.Config) { c.HTTPAddr = "9654" }},
		{"http-addr", func(c *config.Config) {
			c.HTTPAddr, c.InternalTLSCert, c.InternalTLSKey, c.InternalTLSCA = "10.0.0.1:9654", "c", "k", "a"
		}},
		{"--insecure", func(c *config.Config) { c.ControllerAddr = "0.0.0.0:9653" }},
		{"--internal-tls-cert", func(c *config.Config) { c.ControllerAddr = "10.0.0.1:9653" }},
		{"internal-tls-cert", func(c *config.Config) { c.InternalTLSKey, c.InternalTLSCA = "x", "x" }},
		{"internal-tls-key", func(c *config.Config) { c.InternalTLSCert, c.InternalTLSCA = "x", "x" }},
		{"internal-tls-ca", func(c *config.Config) { c.InternalTLSCert, c.InternalTLSKey = "x", "x" }},
		{"ID=HOST:PORT", func(c *config.Config) { c.Peers, c.PeerAddr = []string{"0:a:1"}, "localhost:1" }},
		{"ID=HOST:PORT", func(c *config.Config) { c.Peers, c.PeerAddr = []string{"0=a"}, "localhost:1" }},
		{"ID=HOST:PORT", func(c *config.Config) { c.Peers, c.PeerAddr = []string{"0=http://a:1"}, "localhost:1" }},
		{"peers are 2", func(c *config.Config) { c.Peers, c.PeerAddr = peers(0, 1), "localhost:1" }},
		{"controller 1 twice", func(c *config.Config) { c.Peers, c.PeerAddr = peers(0, 1, 1), "localhost:1" }},
		{"lack controller 0", func(c *config.Config) { c.Peers, c.PeerAddr = peers(1, 2, 3), "localhost:1" }},
		{"peer-addr 0.0.0.0:2380 can be reached", func(c *config.Config) { c.Peers = peers(0, 1, 2) }},
		{"peer-addr", func(c *config.Config) { c.PeerAddr = "x" }},
		{"peer-addr", func(c *config.Config) { c.Peers, c.PeerAddr = peers(0, 1, 2), "c0:2380" }},
		{"peer-addr is of no use", func(c *config.Config) { c.PeerAddr = "127.0.0.1:1" }},
		{"peer-addr 0.0.0.0:1 can be reached", func(c *config.Config) { c.Peers, c.PeerAddr = peers(0), "0.0.0.0:1" }},
		{"recovery", func(c *config.Config) { c.Recovery = "never" }},
		{"session-timeout", func(c *config.Config) { c.SessionTimeout = 1 }},
		{"move-bytes-per-second", func(c *config.Config) { c.MoveBytes = -1 }},
		{"auto-balance-window", func(c *config.Config) { c.AutoBalanceWindow = "22:00" }},
		{"auto-balance-window", func(c *config.Config) { c.AutoBalanceWindow = "22:00-24:00" }},
		{"auto-balance-window", func(c *config.Config) { c.AutoBalanceWindow = "22:00-22:00" }},
		{"log-level", func(c *config.Config) { c.LogLevel = "loud" }},
		{"log-format", func(c *config.Config) { c.LogFormat = "xml" }},
	} {
		cfg := config.Default()
		c.change(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want something about %s", err, c.want)
		}
	}
}

func TestAWindowIsTwoTimesOfDay(t *testing.T) {
	cfg := config.Default()
	if from, to, err := cfg.BalanceTimes(); from != 0 || to != 0 || err != nil || !cfg.AutoBalance {
		t.Error(from, to, err)
	}
	cfg.AutoBalanceWindow = "22:30-06:00"
	if from, to, err := cfg.BalanceTimes(); from != 22*time.Hour+30*time.Minute || to != 6*time.Hour || err != nil || cfg.Validate() != nil {
		t.Error(from, to, err)
	}
}

func TestWhereAControllerListensForTheOthers(t *testing.T) {
	for name, c := range map[string]struct {
		peers, addr string
		secure      bool
		want        string
	}{
		"where the others reach it":               {"0=10.0.0.1:9654", "", false, "http://10.0.0.1:9654"},
		"with certificates it speaks TLS":         {"0=[::1]:9654", "", true, "https://[::1]:9654"},
		"a name is no address to listen on":       {"0=c0.example.org:9654", "", true, "https://0.0.0.0:9654"},
		"what is set comes first":                 {"0=c0.example.org:9654", "10.0.0.1:7", true, "https://10.0.0.1:7"},
		"alone, nowhere":                          {"", "", true, ""},
		"localhost is a name and an address both": {"0=localhost:9654", "", false, "http://localhost:9654"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.PeerAddr, cfg.Insecure = c.addr, !c.secure
			if c.peers != "" {
				cfg.Peers = []string{c.peers}
			}
			if c.secure {
				cfg.InternalTLSCert, cfg.InternalTLSKey, cfg.InternalTLSCA = "c.crt", "c.key", "ca.crt"
			}
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := cfg.PeerListenURL(); got != c.want {
				t.Errorf("it listens at %q, want %q", got, c.want)
			}
		})
	}
}
