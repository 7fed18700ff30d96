package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

type listeners struct {
	GRPCAddr string `name:"grpc-addr" doc:"Where." change:"Never."`
}

type config struct {
	listeners
	Listeners
	Stall   time.Duration `name:"stall" doc:"How long." change:"Never."`
	Safe    bool          `name:"safe" doc:"Whether." change:"Never."`
	Streams int           `name:"streams" doc:"How many." change:"Never."`
	Peers   []string      `name:"peers" doc:"Who." change:"Never."`
}

// Listeners is a group with an exported name.
type Listeners struct {
	HTTPAddr string `name:"http-addr" doc:"Where." change:"Never."`
}

func fresh() *config {
	return &config{Listeners: Listeners{"h"}, Stall: time.Second, Streams: 7}
}

// load loads with a file, an environment and flags.
func load(t *testing.T, file string, environ, args []string) (*config, []Resolved, error) {
	t.Helper()
	c := fresh()
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	Register(fs, c)
	if file != "" {
		name := filepath.Join(t.TempDir(), "millstream.yaml")
		if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", name)
	}
	if err := fs.Parse(args); err != nil {
		return nil, nil, err
	}
	all, err := Load(c, Sources{Flags: fs, Environ: environ, Known: []string{"MILLSTREAM_ADDR"}})
	return c, all, err
}

func TestFlagBeforeEnvironmentBeforeFileBeforeDefault(t *testing.T) {
	c, all, err := load(t,
		"# ours\nstall: 2s\nstreams: 8\nsafe: true\npeers:\n  - a:1\n  - b:2\n",
		[]string{"MILLSTREAM_STREAMS=9", "MILLSTREAM_STALL=3s", "MILLSTREAM_ADDR=x:1", "HOME=/", "MILLSTREAM_SERVICE_HOST=10.0.0.1", "MILLSTREAM_PORT_9650_TCP_ADDR=10.0.0.1"},
		[]string{"--stall", "4s"})
	if err != nil {
		t.Fatal(err)
	}
	want := &config{Listeners: Listeners{"h"}, Stall: 4 * time.Second, Streams: 9, Safe: true, Peers: []string{"a:1", "b:2"}}
	if d := cmp.Diff(want, c, cmp.AllowUnexported(config{})); d != "" {
		t.Error(d)
	}
	got := map[string]string{}
	for _, r := range all {
		source := r.Source
		if i := strings.LastIndex(source, "/"); i >= 0 {
			source = source[i+1:]
		}
		got[r.Name] = r.Value + " by " + source
	}
	if d := cmp.Diff(map[string]string{
		"grpc-addr": " by default", "http-addr": "h by default", "stall": "4s by --stall",
		"safe": "true by millstream.yaml:4", "streams": "9 by MILLSTREAM_STREAMS", "peers": "a:1,b:2 by millstream.yaml:5",
	}, got); d != "" {
		t.Error(d)
	}
}

func TestWhatCannotBeUsedIsRefusedWithItsPlace(t *testing.T) {
	for _, c := range []struct {
		name, file    string
		environ, args []string
		want          []string
	}{
		{name: "unknown key", file: "stall: 1s\n\nstrems: 3\n", want: []string{"millstream.yaml:3", `"strems"`, `did you mean "streams"`}},
		{name: "unknown key far off", file: "zzzzzz: 3\n", want: []string{"millstream.yaml:1", `"zzzzzz"`}},
		{name: "twice", file: "stall: 1s\nstall: 2s\n", want: []string{"millstream.yaml:2"}},
		{name: "bad value", file: "safe: perhaps\n", want: []string{"millstream.yaml:1", "perhaps", "true or false"}},
		{name: "nested", file: "stall:\n  a: 1\n", want: []string{"millstream.yaml:1", "plain value"}},
		{name: "no value", file: "stall:\n", want: []string{"millstream.yaml:1", "no value"}},
		{name: "not YAML", file: "stall: [\n", want: []string{"millstream.yaml:"}},
		{name: "not a mapping", file: "- a\n", want: []string{"millstream.yaml:1", "name: value"}},
		{name: "two documents", file: "stall: 1s\n---\nstall: 2s\n", want: []string{"more than one"}},
		{name: "unknown variable", environ: []string{"MILLSTREAM_STAL=1s"}, want: []string{"MILLSTREAM_STAL:", "MILLSTREAM_STALL"}},
		{name: "bad variable", environ: []string{"MILLSTREAM_STALL=soon"}, want: []string{"MILLSTREAM_STALL:", "soon", "duration"}},
		{name: "unknown flag", args: []string{"--stal", "1s"}, want: []string{"--stal"}},
		{name: "bad flag", args: []string{"--streams", "many"}, want: []string{"--streams", "many", "whole number"}},
		{name: "no file", args: []string{"--config", "/nowhere/x.yaml"}, want: []string{"/nowhere/x.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := load(t, c.file, c.environ, c.args)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not mention %q", err, w)
				}
			}
		})
	}
}

func TestEmptyFilesAreFine(t *testing.T) {
	for _, file := range []string{"# nothing\n", "---\n", "{}\n"} {
		if _, _, err := load(t, file, nil, nil); err != nil {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestFileByEnvironment(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(name, []byte("streams: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := load(t, "", []string{"MILLSTREAM_CONFIG=" + name}, nil)
	if err != nil || c.Streams != 3 {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestUndocumentedFieldsAreFound(t *testing.T) {
	for _, cfg := range []any{
		&struct{ A string }{},
		&struct {
			A string `name:"a" doc:"x."`
		}{},
		&struct {
			A string `name:"a" change:"x."`
		}{},
		&struct {
			A chan int `name:"a" doc:"x." change:"x."`
		}{},
		&struct {
			A string `name:"A" doc:"x." change:"x."`
		}{},
		&struct {
			A string `name:"a" doc:"x." change:"x."`
			B string `name:"a" doc:"x." change:"x."`
		}{},
		struct{}{},
	} {
		if _, err := Walk(cfg); err == nil {
			t.Errorf("%T was taken", cfg)
		}
	}
}
