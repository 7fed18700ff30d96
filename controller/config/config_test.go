package config_test

import (
	"strings"
	"testing"

	"github.com/millstream-io/millstream/controller/config"
)

func TestDefaultsAreValid(t *testing.T) {
	c := config.Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
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

func TestWhatCannotBeIsNamed(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*config.Config)
	}{
		{"controller-id", func(c *config.Config) { c.ControllerID = -1 }},
		{"data-dir", func(c *config.Config) { c.DataDir = "" }},
		{"controller-addr", func(c *config.Config) { c.ControllerAddr = "x" }},
		{"controller-addr", func(c *config.Config) { c.ControllerAddr = "x:y" }},
		{"--insecure", func(c *config.Config) { c.ControllerAddr = "0.0.0.0:9653" }},
		{"--internal-tls-cert", func(c *config.Config) { c.ControllerAddr = "10.0.0.1:9653" }},
		{"internal-tls-cert", func(c *config.Config) { c.InternalTLSKey, c.InternalTLSCA = "x", "x" }},
		{"internal-tls-key", func(c *config.Config) { c.InternalTLSCert, c.InternalTLSCA = "x", "x" }},
		{"internal-tls-ca", func(c *config.Config) { c.InternalTLSCert, c.InternalTLSKey = "x", "x" }},
		{"session-timeout", func(c *config.Config) { c.SessionTimeout = 1 }},
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
