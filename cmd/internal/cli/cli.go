// Package cli is the command line of Millstream: one file for each group of
// commands.
//
// It owns flags, what is printed and exit codes: 0 done, 1 failed, 2 used
// wrongly. Results go to standard output and everything else to standard
// error, one line for an error. It refuses to own what the commands do: they
// call the server through the generated stubs, the Go client or reflection,
// and read files through storage.
//
// INVARIANT: a command that exits 0 has done all that it was asked for.
//
// Main starts one goroutine for signals, which ends with the process; commands
// end what they start before they return. Nothing is done at start that the
// command does not need.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/millstream-io/millstream/server/telemetry"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// defaultAddr is where a broker listens unless it is told otherwise.
const defaultAddr = "127.0.0.1:9650"

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// Program is a run of the command line and its surroundings.
type Program struct {
	// Version of the software.
	Version string
	// Args without the name of the program.
	Args []string
	// In, Out and Err are the standard streams.
	In       io.Reader
	Out, Err io.Writer
	// Getenv looks up the environment.
	Getenv func(string) string
	// Environ is all of it.
	Environ []string

	addr, output, logLevel string // global flags
	tlsCA                  string
	tls                    bool

	dialed dialer

	// leftover is a directory to remove when the process ends at once; nil:
	// none.
	leftover atomic.Pointer[string]
}

// Main runs the program as a process and returns its exit code. A first
// SIGINT or SIGTERM asks the command to end; a second ends the process.
func Main(version string) int {
	// A reader that goes away (| head) is an error of the write, not the end
	// of the process.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &Program{
		Version: version, Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Getenv: os.Getenv, Environ: os.Environ(),
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel(errInterrupted)
		<-signals
		p.removeLeftover()
		os.Exit(exitFailed)
	}()
	return p.Run(ctx)
}

// leftoverTime is how long a process that ends at once tries to remove what it
// would leave behind.
const leftoverTime = time.Second

// removeLeftover removes the leftover as far as it can in leftoverTime. What
// still runs may write to it: it is renamed first, so that nothing new comes
// into it.
func (p *Program) removeLeftover() {
	dir := p.leftover.Load()
	if dir == nil {
		return
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		// Best effort: there is nobody left to be told of errors.
		old := *dir + ".removed"
		if os.Rename(*dir, old) == nil { //nolint:forbidigo // nothing in it is to last
			_ = os.RemoveAll(old)
		}
	}()
	select {
	case <-gone:
	case <-time.After(leftoverTime):
	}
}

// Run runs one command and returns the exit code.
func (p *Program) Run(ctx context.Context) int {
	root, started := p.command()
	root.SetArgs(p.Args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, syscall.EPIPE): // nobody reads any more: nothing is left to do
		return exitDone
	}
	if _, ok := errors.AsType[*usageError](err); !ok && !*started {
		err = &usageError{message: err.Error()} // cobra's own, before any command ran
	}
	p.report(err)
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// command returns the tree of commands, and what is set when one runs.
func (p *Program) command() (root *cobra.Command, started *bool) {
	started = new(bool)
	root = group("millstream", "A streaming platform whose API is protobuf over gRPC",
		p.devCommand(), p.brokerCommand(), p.controllerCommand(),
		p.topicCommand(), p.produceCommand(), p.consumeCommand(), p.benchCommand(), p.clusterCommand(), p.logCommand(), p.checkCommand(), p.apiCommand(), p.certCommand(), p.configCommand(), p.completionCommand(), p.versionCommand(),
	)
	root.Example = `  millstream dev --topics orders:3
  echo hello | millstream produce orders
  millstream consume orders --from earliest --until end`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.Version = p.Version
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misuse(c, "%v", err) })
	flags := root.PersistentFlags()
	flags.StringVar(&p.addr, "addr", defaultAddr, "`HOST:PORT` of a broker, or of several, separated by commas (env MILLSTREAM_ADDR)")
	flags.StringVar(&p.tlsCA, "tls-ca", "", "speak TLS, with brokers whose certificate is of an authority in `FILE` (env MILLSTREAM_TLS_CA)")
	flags.BoolVar(&p.tls, "tls", false, "speak TLS, with brokers whose certificate is of an authority that this system trusts (env MILLSTREAM_TLS)")
	flags.StringVarP(&p.output, "output", "o", "", "output `FORMAT`: table, json or yaml; consume has others")
	flags.StringVar(&p.logLevel, "log-level", "", "least `LEVEL` logged: debug, info, warn or error (env MILLSTREAM_LOG_LEVEL)")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		*started = true
		return p.resolve(c)
	}
	return root, started
}

// resolve fills global flags from the environment and checks them.
func (p *Program) resolve(c *cobra.Command) error {
	flags := c.Flags()
	if v := p.Getenv("MILLSTREAM_ADDR"); v != "" && !flags.Changed("addr") {
		p.addr = v
	}
	if v := p.Getenv("MILLSTREAM_TLS_CA"); v != "" && !flags.Changed("tls-ca") {
		p.tlsCA = v
	}
	if v := p.Getenv("MILLSTREAM_TLS"); v != "" && !flags.Changed("tls") {
		var err error
		if p.tls, err = strconv.ParseBool(v); err != nil {
			return misuse(c, "MILLSTREAM_TLS is %q and must be true or false", v)
		}
	}
	if v := p.Getenv("MILLSTREAM_LOG_LEVEL"); v != "" && !flags.Changed("log-level") {
		p.logLevel = v
	}
	if p.logLevel != "" {
		if _, err := telemetry.ParseLevel(p.logLevel); err != nil {
			return misuse(c, "%v", err)
		}
	}
	return p.checkAddr(c)
}

// group returns a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		SuggestionsMinimumDistance: 2,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				c.SetOut(c.ErrOrStderr())
				if err := c.Help(); err != nil {
					return err
				}
				return misuse(c, "name a command")
			}
			why := fmt.Sprintf("unknown command %q", args[0])
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				why += fmt.Sprintf("; did you mean %q?", near[0])
			}
			return misuse(c, "%s", why)
		},
	}
	c.AddCommand(commands...)
	return c
}

// takes returns a check that a command gets just the named arguments.
func takes(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return misuse(c, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return misuse(c, "unexpected argument %q", args[len(names)])
		}
		for i, name := range names {
			if args[i] == "" {
				return misuse(c, "%s is empty", name)
			}
		}
		return nil
	}
}
