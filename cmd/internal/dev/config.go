package dev

import (
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/server/config"
)

// Config is the settings of a dev server: those of a broker, but for its place
// in a cluster, and the topics to make.
type Config struct {
	// Topics are NAME or NAME:PARTITIONS.
	Topics []string `name:"topics" doc:"Topics to create at the start if they do not exist: NAME or NAME:PARTITIONS, with commas between." change:"A test or a tutorial wants topics to be there."`
	config.Serving
	config.Telemetry
	config.Limits
	config.Storage
}

// DefaultConfig returns the settings of a dev server that is told nothing: no
// data directory, which stands for a temporary one, and a quiet log.
func DefaultConfig() Config {
	c := config.Default()
	c.DataDir = ""
	c.LogLevel = "warn"
	c.LogFormat = "text"
	return Config{Serving: c.Serving, Telemetry: c.Telemetry, Limits: c.Limits, Storage: c.Storage}
}

// broker returns the settings of the broker in a dev server.
func (c *Config) broker(dataDir string) config.Config {
	b := config.Config{
		Identity: config.Default().Identity,
		Serving:  c.Serving, Telemetry: c.Telemetry, Limits: c.Limits, Storage: c.Storage,
	}
	b.DataDir = dataDir
	return b
}

// Validate refuses settings that cannot be. It names all of them.
func (c *Config) Validate() error {
	dir := c.DataDir
	if dir == "" {
		dir = "temporary"
	}
	b := c.broker(dir)
	errs := []error{b.Validate()}
	seen := map[string]bool{}
	for _, t := range c.Topics {
		spec, err := ParseTopic(t)
		if err == nil && seen[spec.Name] {
			err = fmt.Errorf("topic %q is there twice", spec.Name)
		}
		seen[spec.Name] = true
		if err != nil {
			errs = append(errs, &config.InvalidError{Name: "topics", Why: err.Error()})
		}
	}
	return errors.Join(errs...)
}
