// Package config owns the settings of a broker: their names, defaults,
// meanings and what they may be, in one struct whose tags are the flags, the
// environment, the YAML file and the reference documentation.
//
// It refuses to own where values come from (the command line reads the tags)
// and what is built from them: it fills the options of the server's packages
// and nothing else. It is used by programs and test harnesses only, holds no
// state and starts no goroutine.
//
// INVARIANT: a Config that Validate accepts gives options that the packages
// accept.
package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/millstream-io/millstream/server/telemetry"
)

// Config is the settings of a broker.
type Config struct {
	Identity
	Serving
	InternalTLS
	Telemetry
	Limits
	Storage
}

// Identity says which broker of which cluster it is.
type Identity struct {
	// BrokerID is unique in the cluster, from 0.
	BrokerID int32 `name:"id" env:"BROKER_ID" doc:"Identity of the broker, unique in the cluster, from 0." change:"The cluster has more than one broker."`
	// Controllers are HOST:PORT of each.
	Controllers []string `name:"controllers" doc:"HOST:PORT of each controller." change:"The controllers run on other machines."`
	// AdvertisedAddr is HOST:PORT; empty: GRPCAddr.
	AdvertisedAddr string `name:"advertised-addr" doc:"HOST:PORT where clients reach the broker, if that is not grpc-addr." change:"Clients are told an address that they cannot reach."`
	// InternalAddr is HOST:PORT.
	InternalAddr string `name:"internal-addr" doc:"HOST:PORT where brokers and controllers are served; never for clients." change:"Other brokers are on other machines, or the port is in use."`
	// InternalAdvertisedAddr is HOST:PORT; empty: InternalAddr, with the host of
	// AdvertisedAddr if that names none.
	InternalAdvertisedAddr string `name:"internal-advertised-addr" doc:"HOST:PORT where brokers and controllers reach the broker, if that is not internal-addr; the host is in its internal certificate." change:"Brokers are told an address that they cannot reach."`
	// Rack is any text.
	Rack string `name:"rack" doc:"Where the broker stands; replicas are spread over racks." change:"One power supply or one switch must not take all replicas."`
}

// Serving says where the broker listens and keeps its data.
type Serving struct {
	// DataDir is a directory of the broker's own.
	DataDir string `name:"data-dir" doc:"Directory of the logs; nobody else may use it." change:"Always: records should be on a disk of their own."`
	// GRPCAddr is HOST:PORT.
	GRPCAddr string `name:"grpc-addr" doc:"HOST:PORT where gRPC clients are served." change:"Clients are on other machines, or the port is in use."`
	// HTTPAddr is HOST:PORT.
	HTTPAddr string `name:"http-addr" doc:"HOST:PORT of REST, metrics, health and readiness." change:"They are asked from other machines, or the port is in use."`
	// Insecure allows listeners that are not on loopback without TLS.
	Insecure bool `name:"insecure" doc:"Serve other machines without TLS." change:"The network is trusted, or something in front adds TLS."`
	// TLSCert and TLSKey are files; empty: there is no TLS.
	TLSCert string `name:"tls-cert" doc:"File of the certificate that clients are shown, over gRPC and HTTP; PEM, read again when it changes." change:"Clients are on other machines."`
	// TLSKey is the private key of TLSCert.
	TLSKey string `name:"tls-key" doc:"File of its private key." change:"With tls-cert."`
	// StopTimeout is how long running calls get when the broker stops.
	StopTimeout time.Duration `name:"stop-timeout" doc:"How long running calls get to finish when the broker stops; at most 3s keeps a stop below 5s." change:"Clients lose calls when a broker is restarted."`
}

// InternalTLS says with what the broker and the controllers know each other.
type InternalTLS struct {
	// InternalTLSCert is a file; with the other two or not at all.
	InternalTLSCert string `name:"internal-tls-cert" doc:"File of the certificate of this broker, of role broker with its id, for controllers and brokers; PEM, read again when it changes." change:"Controllers or brokers are on other machines."`
	// InternalTLSKey is the private key of InternalTLSCert.
	InternalTLSKey string `name:"internal-tls-key" doc:"File of its private key." change:"With internal-tls-cert."`
	// InternalTLSCA is a file of one authority or more.
	InternalTLSCA string `name:"internal-tls-ca" doc:"File of the authorities whose certificates of controllers and brokers are accepted." change:"With internal-tls-cert."`
}

// HasInternalTLS tells whether there is TLS between processes.
func (t *InternalTLS) HasInternalTLS() bool { return t.InternalTLSCert != "" }

// Telemetry says what is logged.
type Telemetry struct {
	// LogLevel is debug, info, warn or error.
	LogLevel string `name:"log-level" doc:"Least level that is logged: debug, info, warn or error." change:"Something is to be found out."`
	// LogFormat is auto, text or json.
	LogFormat string `name:"log-format" doc:"Form of the log: text, json, or auto (text on a terminal)." change:"Logs are collected by a program that wants the other form."`
}

// Limits bound what clients can make the broker hold.
type Limits struct {
	// MaxConnections is for each listener.
	MaxConnections int `name:"max-connections" doc:"Connections at a time; more wait to be accepted." change:"Clients wait to connect though memory is free."`
	// MaxStreams is for each connection.
	MaxStreams uint32 `name:"max-streams" doc:"Calls at a time on one connection; more wait in the client." change:"A proxy puts many clients on one connection."`
	// InFlightBytes is for the process.
	InFlightBytes Bytes `name:"inflight-bytes" doc:"Produce requests held by the broker and not yet acknowledged, all streams together." change:"Memory is short, or many fast producers wait for each other."`
	// StreamInFlightBytes is for each stream.
	StreamInFlightBytes Bytes `name:"stream-inflight-bytes" doc:"The same for one Produce stream." change:"One producer far away does not reach its speed."`
	// FetchInFlightBytes is for the process.
	FetchInFlightBytes Bytes `name:"fetch-inflight-bytes" doc:"Frames of Fetch and Read that are not written to their clients, and batches being decompressed for them, all streams together; at least 32MiB." change:"Memory is short, or many readers far away wait for each other."`
	// FetchFrameBytes is the most that is sent at once.
	FetchFrameBytes Bytes `name:"fetch-frame-bytes" doc:"Records in one frame of Fetch, 4KiB to 1MiB; one larger batch still fits." change:"Readers far away are slow, or many readers need too much memory."`
	// StallTimeout ends streams of clients that do not read.
	StallTimeout time.Duration `name:"stall-timeout" doc:"How long a client may leave an answer unread before its stream is ended." change:"Slow readers are cut off, or dead ones hold memory."`
}

// Storage says how logs are kept.
type Storage struct {
	// AuditDir is a directory; empty: no history is kept.
	AuditDir string `name:"audit-dir" doc:"Directory for a history of what the replicas of this broker do and what it is told of the cluster, which millstream check can judge; empty: none is kept." change:"A fault is to be understood; it costs a line for each group of records."`
	// MaxOpenFiles bounds open and mapped segments.
	MaxOpenFiles int `name:"max-open-files" doc:"Segments that are open or mapped at a time; a third of the system's limit of open files at most." change:"Descriptors are scarce; or more partitions than that are written to at a time, and files are opened and synced all the time."`
	// MaxSyncs bounds fdatasync calls.
	MaxSyncs int `name:"max-syncs" doc:"Syncs at a time in the data directory." change:"The disk is faster with more, or its latency suffers."`
	// ReplicaLag is how long a replica may be behind.
	ReplicaLag time.Duration `name:"replica-lag" doc:"How long a replica may be behind the broker's leaderships and stay in sync; records are acknowledged without it after that." change:"Replicas leave and join in turn, or producers wait too long for one that is slow."`
	// SlowDisk is for writes and syncs.
	SlowDisk time.Duration `name:"slow-disk" doc:"How long writes and syncs take from which on others lead and are waited for, where their disks are at least three times as fast; 0: never." change:"Leaders move because of a disk that is as fast as it can be, or stay on one that slows producers."`
	// ScrubBytes is for each second.
	ScrubBytes Bytes `name:"scrub-bytes-per-second" doc:"Logs read a second, at most once an hour, to find damage, which is then repaired from other replicas; 0: none." change:"Disks have time to spare, or none."`
	// RetentionInterval is how often old segments are looked for.
	RetentionInterval time.Duration `name:"retention-interval" doc:"How often segments that retention lets go are looked for." change:"Space is to be free sooner."`
	// TrashKeep is how long deleted logs are kept.
	TrashKeep time.Duration `name:"trash-keep" doc:"How long the files of a deleted topic are kept in the trash." change:"Deleting a topic should free space sooner, or mistakes are found later."`
	// DiskHighWaterPercent is of the disk.
	DiskHighWaterPercent int `name:"disk-high-water-percent" doc:"How full the disk may be before the trash is emptied sooner." change:"The disk fills with deleted topics."`
}

// Default returns the settings of a broker that is told nothing.
func Default() Config {
	return Config{
		Identity: Identity{Controllers: []string{"127.0.0.1:9653"}, InternalAddr: "127.0.0.1:9652"},
		Serving: Serving{
			DataDir: "millstream-data", GRPCAddr: "127.0.0.1:9650", HTTPAddr: "127.0.0.1:9651",
			StopTimeout: 3 * time.Second,
		},
		Telemetry: Telemetry{LogLevel: "info", LogFormat: string(telemetry.FormatAuto)},
		Limits: Limits{
			MaxConnections: 10_000, MaxStreams: 128,
			InFlightBytes: 128 << 20, StreamInFlightBytes: 16 << 20, FetchInFlightBytes: 256 << 20, FetchFrameBytes: 512 << 10,
			StallTimeout: 30 * time.Second,
		},
		Storage: Storage{
			MaxOpenFiles: 8192, MaxSyncs: 64, ReplicaLag: 10 * time.Second, SlowDisk: 100 * time.Millisecond, ScrubBytes: 4 << 20, RetentionInterval: 30 * time.Second, TrashKeep: 24 * time.Hour,
			DiskHighWaterPercent: 90,
		},
	}
}

// InvalidError says that a setting cannot be used.
type InvalidError struct {
	// Name of the setting.
	Name string
	// Why it cannot be used.
	Why string
}

// Error says it for people.
func (e *InvalidError) Error() string { return e.Name + " " + e.Why }

// Validate refuses settings that cannot be, or that contradict each other. It
// names all of them.
func (c *Config) Validate() error {
	return errors.Join(c.Identity.validate(), c.Serving.Validate(), c.InternalTLS.validate(), c.validateInternal(), c.Telemetry.Validate(), c.Limits.validate(), c.Storage.validate())
}

// validateInternal refuses to speak to other processes on other machines
// without TLS, unless that is allowed.
func (c *Config) validateInternal() error {
	if c.Insecure || c.HasInternalTLS() {
		return nil
	}
	if checkAddr("internal-addr", c.InternalAddr) == nil && !IsLoopback(c.InternalAddr) {
		return &InvalidError{"internal-addr", c.InternalAddr + " can be reached from other machines, without TLS: name certificates with --internal-tls-cert, --internal-tls-key and --internal-tls-ca ('millstream cert issue' makes them), listen on 127.0.0.1, or allow it with --insecure"}
	}
	for _, addr := range c.Controllers {
		if checkAddr("controllers", addr) == nil && !IsLoopback(addr) {
			return &InvalidError{"controllers", addr + " is on another machine, and would be spoken to without TLS: name certificates with --internal-tls-cert, --internal-tls-key and --internal-tls-ca ('millstream cert issue' makes them), or allow it with --insecure"}
		}
	}
	return nil
}

func (t *InternalTLS) validate() error {
	if t.InternalTLSCert == "" && t.InternalTLSKey == "" && t.InternalTLSCA == "" {
		return nil
	}
	var errs []error
	for _, f := range []struct{ name, file string }{
		{"internal-tls-cert", t.InternalTLSCert}, {"internal-tls-key", t.InternalTLSKey}, {"internal-tls-ca", t.InternalTLSCA},
	} {
		if f.file == "" {
			errs = append(errs, &InvalidError{f.name, "is missing: TLS between processes needs internal-tls-cert, internal-tls-key and internal-tls-ca"})
		}
	}
	return errors.Join(errs...)
}

func (i *Identity) validate() error {
	var errs []error
	if i.BrokerID < 0 {
		errs = append(errs, &InvalidError{"id", "must not be negative"})
	}
	if len(i.Controllers) == 0 {
		errs = append(errs, &InvalidError{"controllers", "names none"})
	}
	for _, addr := range i.Controllers {
		errs = append(errs, checkAddr("controllers", addr))
	}
	errs = append(errs, checkAddr("internal-addr", i.InternalAddr))
	for _, a := range []struct{ name, addr string }{{"advertised-addr", i.AdvertisedAddr}, {"internal-advertised-addr", i.InternalAdvertisedAddr}} {
		if a.addr != "" {
			errs = append(errs, checkAddr(a.name, a.addr))
		}
	}
	return errors.Join(errs...)
}

// Validate refuses addresses that cannot be, and those that other machines
// could reach without TLS unless that is allowed.
func (s *Serving) Validate() error {
	var errs []error
	for _, l := range []struct{ name, addr string }{{"grpc-addr", s.GRPCAddr}, {"http-addr", s.HTTPAddr}} {
		if err := checkAddr(l.name, l.addr); err != nil {
			errs = append(errs, err)
			continue
		}
		if !s.Insecure && s.TLSCert == "" && !IsLoopback(l.addr) {
			errs = append(errs, &InvalidError{l.name, l.addr + " can be reached from other machines, without TLS: name a certificate with --tls-cert and --tls-key ('millstream cert issue' makes one), listen on 127.0.0.1, or allow it with --insecure"})
		}
	}
	if s.TLSCert != "" && s.TLSKey == "" {
		errs = append(errs, &InvalidError{"tls-key", "is missing: tls-cert needs its private key"})
	}
	if s.TLSCert == "" && s.TLSKey != "" {
		errs = append(errs, &InvalidError{"tls-cert", "is missing: tls-key is of no use without its certificate"})
	}
	if s.DataDir == "" {
		errs = append(errs, &InvalidError{"data-dir", "is empty"})
	}
	return errors.Join(append(errs, positive("stop-timeout", s.StopTimeout))...)
}

// Validate refuses levels and formats that are none.
func (t *Telemetry) Validate() error {
	var errs []error
	if _, err := telemetry.ParseLevel(t.LogLevel); err != nil {
		errs = append(errs, &InvalidError{"log-level", err.Error()})
	}
	if _, err := telemetry.ParseFormat(t.LogFormat); err != nil {
		errs = append(errs, &InvalidError{"log-format", err.Error()})
	}
	return errors.Join(errs...)
}

func (l *Limits) validate() error {
	var frame, stream, fetch error
	// Less would not hold the largest batch and what it decompresses to.
	if l.FetchInFlightBytes < 32<<20 {
		fetch = &InvalidError{"fetch-inflight-bytes", "must be at least 32MiB"}
	}
	if l.FetchFrameBytes < 4<<10 || l.FetchFrameBytes > 1<<20 {
		frame = &InvalidError{"fetch-frame-bytes", "must be 4KiB to 1MiB"}
	}
	if l.StreamInFlightBytes > l.InFlightBytes {
		stream = &InvalidError{"stream-inflight-bytes", "is more than inflight-bytes, of all streams together"}
	}
	// Less would not hold one request of the largest size.
	if l.StreamInFlightBytes < 4<<20 {
		stream = &InvalidError{"stream-inflight-bytes", "must be at least 4MiB"}
	}
	return errors.Join(positive("max-connections", l.MaxConnections), positive("max-streams", l.MaxStreams),
		positive("inflight-bytes", l.InFlightBytes), stream, fetch, frame, positive("stall-timeout", l.StallTimeout))
}

func (s *Storage) validate() error {
	var percent error
	if s.DiskHighWaterPercent < 1 || s.DiskHighWaterPercent > 100 {
		percent = &InvalidError{"disk-high-water-percent", "must be 1 to 100"}
	}
	var slow error
	if s.SlowDisk < 0 {
		slow = &InvalidError{"slow-disk", "must not be negative"}
	}
	return errors.Join(slow, positive("max-open-files", s.MaxOpenFiles), positive("max-syncs", s.MaxSyncs), positive("replica-lag", s.ReplicaLag),
		positive("retention-interval", s.RetentionInterval), positive("trash-keep", s.TrashKeep), percent)
}

func positive[T int | uint32 | Bytes | time.Duration](name string, v T) error {
	if v <= 0 {
		return &InvalidError{name, "must be more than 0"}
	}
	return nil
}

func checkAddr(name, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return &InvalidError{name, fmt.Sprintf("%q is not HOST:PORT", addr)}
	}
	return nil
}

// IsLoopback tells whether only this machine can reach an address to listen
// on.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
