package cli

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/millstream-io/millstream/cmd/internal/dev"
	controllerconfig "github.com/millstream-io/millstream/controller/config"
	serverconfig "github.com/millstream-io/millstream/server/config"
	"github.com/millstream-io/millstream/server/telemetry"
)

func (p *Program) devCommand() *cobra.Command {
	cfg := dev.DefaultConfig()
	var readyFile string
	c := &cobra.Command{
		Use: "dev", Short: "Run a server for development: controller and broker in one process",
		Long: `Run a server for development: controller and broker in one process, on
loopback, without configuration. Without --data-dir records are kept in a
temporary directory, and lost at exit. It is ready when GET /readyz on the HTTP
address answers 200. SIGTERM or Ctrl-C stops it in an orderly way; a second one
at once. Port 0 is any that is free; with -o json standard output gets one
object that says which.`,
		Example: `  millstream dev
  millstream dev --data-dir ./data --topics orders:3,events
  millstream dev --grpc-addr 127.0.0.1:7650 --http-addr 127.0.0.1:7651`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			if _, err := p.load(c, &cfg); err != nil {
				return err
			}
			return dev.RunDev(c.Context(), cfg, dev.Options{
				Version: p.Version, Logger: p.serverLogger(cfg.LogLevel, cfg.LogFormat),
				OnReady:     func(b dev.Banner) { p.ready(c, b, readyFile) },
				OnTemporary: func(dir string) { p.leftover.Store(&dir) },
			})
		},
	}
	registerSettings(c, &cfg)
	c.Flags().StringVar(&readyFile, "ready-file", "", "`FILE` that gets the addresses as JSON when the server is ready")
	_ = c.Flags().MarkHidden("ready-file") // the flag was made one line above
	return c
}

// readyView says where a server that is ready can be reached.
type readyView struct {
	GRPCAddr  string `json:"grpc_addr"`
	HTTPAddr  string `json:"http_addr"`
	DataDir   string `json:"data_dir"`
	Temporary bool   `json:"temporary"`
}

// ready says that a dev server is ready. What cannot be said does not stop it.
func (p *Program) ready(c *cobra.Command, b dev.Banner, readyFile string) {
	v := readyView{b.GRPCAddr, b.HTTPAddr, b.DataDir, b.Temporary}
	_, _ = io.WriteString(p.Err, b.String())
	if p.output == "json" || p.output == "yaml" {
		_ = p.show(c, v)
	}
	if readyFile == "" {
		return
	}
	text, err := marshalJSON(v, "")
	if err == nil {
		err = renameio.WriteFile(readyFile, text, 0o644) // it appears with all its bytes
	}
	if err != nil {
		p.done("--ready-file: %v", err)
	}
}

func (p *Program) brokerCommand() *cobra.Command {
	cfg := serverconfig.Default()
	c := &cobra.Command{
		Use: "broker", Short: "Run a broker",
		Long: `Run a broker. It registers with a controller and serves clients. Without TLS it
listens on loopback only, unless --insecure.`,
		Example: "  millstream broker --config broker.yaml\n  millstream broker --id 1 --data-dir ./broker --controllers 127.0.0.1:9653",
		Args:    takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := p.load(c, &cfg); err != nil {
				return err
			}
			log := p.serverLogger(cfg.LogLevel, cfg.LogFormat)
			return dev.RunBroker(c.Context(), cfg, dev.Options{Version: p.Version, Logger: log, OnReady: func(b dev.Banner) {
				log.Info("broker ready", slog.String("grpc_addr", b.GRPCAddr), slog.String("http_addr", b.HTTPAddr), slog.String("internal_addr", b.InternalAddr), slog.String("data_dir", b.DataDir))
			}})
		},
	}
	registerSettings(c, &cfg)
	return c
}

func (p *Program) controllerCommand() *cobra.Command {
	cfg := controllerconfig.Default()
	c := &cobra.Command{
		Use: "controller", Short: "Run a controller",
		Long:    "Run a controller. It keeps the metadata and serves brokers, never clients.",
		Example: "  millstream controller --data-dir ./controller\n  millstream controller --id 1 --data-dir ./controller --addr 127.0.0.1:9653 --peers 1=127.0.0.1:9654",
		Args:    takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := p.load(c, &cfg); err != nil {
				return err
			}
			log := p.serverLogger(cfg.LogLevel, cfg.LogFormat)
			return dev.RunController(c.Context(), cfg, dev.Options{Version: p.Version, Logger: log, OnReady: func(b dev.Banner) {
				log.Info("controller ready", slog.String("addr", b.GRPCAddr), slog.String("http_addr", b.HTTPAddr), slog.String("data_dir", b.DataDir))
			}})
		},
	}
	registerSettings(c, &cfg)
	return c
}

// serverLogger returns the log of a server. Validate has refused what is no
// level or format.
func (p *Program) serverLogger(level, format string) *slog.Logger {
	l, lerr := telemetry.ParseLevel(level)
	f, ferr := telemetry.ParseFormat(format)
	if lerr != nil || ferr != nil {
		panic(fmt.Sprintf("unchecked settings: %v, %v", lerr, ferr))
	}
	return telemetry.NewLogger(p.Err, telemetry.LogOptions{Format: f, Level: l, Getenv: p.Getenv})
}
