package cli

import (
	"errors"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/millstream-io/millstream/cmd/internal/dev"
	"github.com/millstream-io/millstream/cmd/internal/settings"
	controllerconfig "github.com/millstream-io/millstream/controller/config"
	serverconfig "github.com/millstream-io/millstream/server/config"
)

// configuration is the settings of a role.
type configuration interface{ Validate() error }

// roles are what a process can be, with fresh default settings.
func roles() map[string]configuration {
	d, b, c := dev.DefaultConfig(), serverconfig.Default(), controllerconfig.Default()
	return map[string]configuration{"dev": &d, "broker": &b, "controller": &c}
}

// knownEnv are variables that are no settings of a role.
var knownEnv = []string{"MILLSTREAM_ADDR", "MILLSTREAM_TLS", "MILLSTREAM_TLS_CA"}

// load fills the settings of a role from flags, environment and file.
func (p *Program) load(c *cobra.Command, cfg configuration) ([]settings.Resolved, error) {
	all, err := settings.Load(cfg, settings.Sources{Flags: c.Flags(), Environ: p.Environ, Known: knownEnv})
	if err == nil {
		err = cfg.Validate()
	}
	if err == nil {
		return all, refuseEmptyDir(c, all)
	}
	_, bad := errors.AsType[*settings.Error](err)
	_, badServer := errors.AsType[*serverconfig.InvalidError](err)
	_, badController := errors.AsType[*controllerconfig.InvalidError](err)
	if bad || badServer || badController {
		return nil, misuse(c, "%v", err)
	}
	return nil, err
}

// refuseEmptyDir refuses a data directory that was given as empty: it is a
// variable that was not set, and in dev it would stand for a temporary
// directory. In a file it may be: config show -o yaml prints it so.
func refuseEmptyDir(c *cobra.Command, all []settings.Resolved) error {
	for _, s := range all {
		if s.Name == "data-dir" && s.Value == "" && (s.Source == "--data-dir" || s.Source == s.Env) {
			return misuse(c, "%s is empty: name a directory, or leave it out", s.Source)
		}
	}
	return nil
}

// settingView is a setting as JSON shows it.
type settingView struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Source  string `json:"source"`
	Default string `json:"default"`
	Env     string `json:"env"`
	Doc     string `json:"doc"`
}

func (p *Program) configCommand() *cobra.Command {
	show := p.configShow("show", "broker")
	show.Short = "Show the settings of a role, with their values and where they were set"
	show.Long = `Show every setting of a role, its value and where it was set: a flag, a
variable of the environment, a line of the file, or the default. Flags come
before the environment, the environment before the file. Without a role it is
that of a broker. -o yaml prints a file that --config takes.`
	show.Example = `  millstream config show
  millstream config show dev --topics a:3
  millstream config show broker --config millstream.yaml -o yaml`
	for _, role := range []string{"dev", "broker", "controller"} {
		c := p.configShow(role, role)
		c.Short = "Show the settings of the role " + role
		show.AddCommand(c)
	}
	return group("config", "Show the settings of servers", show)
}

func (p *Program) configShow(use, role string) *cobra.Command {
	cfg := roles()[role]
	c := &cobra.Command{
		Use: use, Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			all, err := p.load(c, cfg)
			if err != nil {
				return err
			}
			return p.showSettings(c, all)
		},
	}
	registerSettings(c, cfg)
	return c
}

// registerSettings makes the settings of a role flags of a command; log-level
// is a flag of every command.
func registerSettings(c *cobra.Command, cfg configuration) {
	settings.Register(c.Flags(), cfg, "log-level")
}

func (p *Program) showSettings(c *cobra.Command, all []settings.Resolved) error {
	if p.output == "yaml" {
		var m yaml.MapSlice
		for _, s := range all {
			m = append(m, yaml.MapItem{Key: s.Name, Value: s.Any()})
		}
		b, err := yaml.MarshalWithOptions(m, yaml.IndentSequence(true))
		if err != nil {
			return err
		}
		_, err = p.Out.Write(b)
		return err
	}
	views := make([]settingView, len(all))
	t := &table{header: []string{"SETTING", "VALUE", "SOURCE", "ENVIRONMENT"}}
	for i, s := range all {
		views[i] = settingView{s.Name, s.Value, s.Source, s.Default, s.Env, s.Doc}
		t.add(s.Name, s.Value, s.Source, s.Env)
	}
	return p.show(c, views, t)
}
