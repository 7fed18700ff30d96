package settings

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// FileFlag is the flag that names the YAML file; MILLSTREAM_CONFIG does too.
const FileFlag = "config"

// Sources are where values come from.
type Sources struct {
	// Flags after parsing, on which Register was called.
	Flags *pflag.FlagSet
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// Known are environment variables with the prefix that are somebody
	// else's.
	Known []string
}

// Resolved is a setting with its value in force.
type Resolved struct {
	Setting
	// Value in force, as text.
	Value string
	// Source says where it was set: `default`, `--name`, the name of a
	// variable, or `FILE:LINE`.
	Source string
}

// Error says which setting cannot be used and where it was set.
type Error struct {
	// Where is `--name`, the name of a variable, or `FILE:LINE`.
	Where string
	// Why it cannot be used.
	Why string
}

// Error says it for people.
func (e *Error) Error() string { return e.Where + ": " + e.Why }

// Register adds a flag for each setting of cfg and one for the file, but for
// those that the command has by another way. It panics on a configuration that
// Walk refuses: that is a mistake in the program, found by its tests.
func Register(fs *pflag.FlagSet, cfg any, had ...string) {
	all, err := Walk(cfg)
	if err != nil {
		panic(err)
	}
	for _, s := range all {
		if slices.Contains(had, s.Name) {
			continue
		}
		f := fs.VarPF(newFlagValue(&s), s.Name, "", s.Doc)
		if s.Kind == "yes/no" {
			f.NoOptDefVal = "true"
		}
	}
	fs.String(FileFlag, "", "YAML file with settings")
}

// flagValue holds the text of a flag that parses.
type flagValue struct {
	text string
	kind string
	of   reflect.Type
}

func newFlagValue(s *Setting) *flagValue {
	return &flagValue{text: s.Default, kind: s.Kind, of: s.field.Type()}
}

// String returns the text.
func (v *flagValue) String() string { return v.text }

// Type is shown in help.
func (v *flagValue) Type() string { return v.kind }

// Set keeps a text that parses.
func (v *flagValue) Set(text string) error {
	if err := parseInto(reflect.New(v.of).Elem(), text); err != nil {
		return err
	}
	v.text = text
	return nil
}

// texts is a source of values for koanf: texts by name.
type texts map[string]any

// ReadBytes is not used: the values are parsed already.
func (texts) ReadBytes() ([]byte, error) { return nil, fmt.Errorf("settings: not bytes") }

// Read returns the values.
func (t texts) Read() (map[string]any, error) { return t, nil }

// Load fills cfg from its sources: flags before environment before file before
// what it holds. It returns every setting with its value and its source.
func Load(cfg any, src Sources) ([]Resolved, error) {
	all, err := Walk(cfg)
	if err != nil {
		return nil, err
	}
	environ := lookup(src.Environ)
	defaults, origin := texts{}, map[string]string{}
	for _, s := range all {
		defaults[s.Name], origin[s.Name] = s.Default, "default"
	}
	fromFile, err := fileTexts(all, src.Flags, environ, origin)
	if err != nil {
		return nil, err
	}
	fromEnv, err := envTexts(all, environ, src.Known, origin)
	if err != nil {
		return nil, err
	}
	k := koanf.New("\x00") // names have no levels
	for _, t := range []texts{defaults, fromFile, fromEnv, flagTexts(all, src.Flags, origin)} {
		if err := k.Load(t, nil); err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
	}
	out := make([]Resolved, len(all))
	for i, s := range all {
		text := k.String(s.Name)
		if err := s.Set(text); err != nil {
			return nil, &Error{Where: origin[s.Name], Why: fmt.Sprintf("%s is %q and %v", s.Name, text, err)}
		}
		out[i] = Resolved{Setting: s, Value: s.Text(), Source: origin[s.Name]}
	}
	return out, nil
}

func lookup(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, EnvPrefix) {
			m[name] = value
		}
	}
	return m
}

func flagTexts(all []Setting, fs *pflag.FlagSet, origin map[string]string) texts {
	t := texts{}
	for _, s := range all {
		if f := fs.Lookup(s.Name); f != nil && f.Changed {
			t[s.Name], origin[s.Name] = f.Value.String(), "--"+s.Name
		}
	}
	return t
}

// serviceLink fits the variables that Kubernetes sets for a service called
// millstream: they are nobody's mistake.
var serviceLink = regexp.MustCompile(`^MILLSTREAM_(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_\d+_(?:TCP|UDP|SCTP).*)?)$`)

func envTexts(all []Setting, environ map[string]string, known []string, origin map[string]string) (texts, error) {
	t := texts{}
	left := environ
	for _, s := range all {
		if value, ok := environ[s.Env]; ok {
			t[s.Name], origin[s.Name] = value, s.Env
			delete(left, s.Env)
		}
	}
	for _, name := range append(known, EnvPrefix+"CONFIG") {
		delete(left, name)
	}
	for name := range left {
		if serviceLink.MatchString(name) {
			continue
		}
		candidates := make([]string, len(all))
		for i, s := range all {
			candidates[i] = s.Env
		}
		return nil, &Error{Where: name, Why: "no setting has this name" + didYouMean(name, candidates)}
	}
	return t, nil
}

func fileTexts(all []Setting, fs *pflag.FlagSet, environ map[string]string, origin map[string]string) (texts, error) {
	name := environ[EnvPrefix+"CONFIG"]
	if f := fs.Lookup(FileFlag); f != nil && f.Changed {
		name = f.Value.String()
	}
	if name == "" {
		return texts{}, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parseFile(name, b, all, origin)
}
