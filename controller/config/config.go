// Package config owns the settings of a controller: their names, defaults,
// meanings and what they may be, in one struct whose tags are the flags, the
// environment, the YAML file and the reference documentation.
//
// It refuses to own where values come from: the command line reads the tags.
// It is used by programs and test harnesses only, holds no state and starts no
// goroutine.
//
// INVARIANT: a Config that Validate accepts gives options that the
// controller's packages accept.
package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/server/telemetry"
)

// Config is the settings of a controller.
type Config struct {
	// ControllerID is unique among the controllers, from 0.
	ControllerID int32 `name:"id" env:"CONTROLLER_ID" doc:"Identity of the controller, unique among them, from 0." change:"There is more than one controller."`
	// DataDir is a directory of the controller's own.
	DataDir string `name:"data-dir" doc:"Directory of the metadata; nobody else may use it." change:"Always: it should be on a disk that is backed up and syncs fast."`
	// ControllerAddr is HOST:PORT.
	ControllerAddr string `name:"addr" env:"CONTROLLER_ADDR" doc:"HOST:PORT where brokers are served; never for clients." change:"Brokers are on other machines, or the port is in use."`
	// AdvertisedAddr is HOST:PORT; empty: ControllerAddr, with the host that Peers
	// have of this one if that names none.
	AdvertisedAddr string `name:"advertised-addr" doc:"HOST:PORT where brokers reach this controller, if that is not addr; brokers learn it from any controller. The host is in its internal certificate." change:"Brokers are told an address that they cannot reach."`
	// HTTPAddr is HOST:PORT; empty: nowhere.
	HTTPAddr string `name:"http-addr" env:"CONTROLLER_HTTP_ADDR" doc:"HOST:PORT of metrics, health and readiness; empty: nowhere." change:"The controller is watched."`
	// Insecure allows a listener that is not on loopback without TLS.
	Insecure bool `name:"insecure" doc:"Serve other machines without TLS." change:"The network is trusted, or something in front adds TLS."`
	// InternalTLSCert is a file; with the other two or not at all.
	InternalTLSCert string `name:"internal-tls-cert" doc:"File of the certificate of this controller, of role controller with its id, for brokers and controllers; PEM, read again when it changes." change:"Brokers or controllers are on other machines."`
	// InternalTLSKey is the private key of InternalTLSCert.
	InternalTLSKey string `name:"internal-tls-key" doc:"File of its private key." change:"With internal-tls-cert."`
	// InternalTLSCA is a file of one authority or more.
	InternalTLSCA string `name:"internal-tls-ca" doc:"File of the authorities whose certificates of brokers and controllers are accepted." change:"With internal-tls-cert."`
	// SessionTimeout is how long a broker may be silent.
	SessionTimeout time.Duration `name:"session-timeout" doc:"How long a broker may be silent before it is not counted on." change:"Brokers on a busy network are given up too soon, or dead ones too late."`
	// MoveBytes is for each second.
	MoveBytes int `name:"move-bytes-per-second" doc:"Bytes a second that each replica is filled with that is added for a move, a rebalance or a drain, if the command names no throttle; 0: as fast as can be. Replicas in sync are never held back." change:"Moves slow down producers and consumers."`
	// AutoBalance moves what nobody asked to be moved.
	AutoBalance bool `name:"auto-balance" doc:"Move replicas to brokers that have less than half of what brokers have on average, as one that was added, and leaders to where they are preferred, without being asked." change:"Only people or programs of yours are to move anything; the same for all controllers."`
	// AutoBalanceWindow is HH:MM-HH:MM.
	AutoBalanceWindow string `name:"auto-balance-window" doc:"Time of day in UTC, HH:MM-HH:MM, in which auto-balance begins to move something; empty: always." change:"There are hours in which the brokers have little to do."`
	// Peers are all controllers, as ID=HOST:PORT.
	Peers []string `name:"peers" doc:"Where all controllers, this one included, reach each other, as ID=HOST:PORT: 1, 3 or 5 of them. It is a port of its own, not that of addr. Empty: it is alone." change:"There is more than one controller; the same list for all of them."`
	// PeerAddr is HOST:PORT.
	PeerAddr string `name:"peer-addr" doc:"HOST:PORT where the other controllers are served, if that is not what peers says of this one; HOST is an IP address or localhost." change:"The others reach this one by an address that this machine does not have."`
	// Join says that the others are running.
	Join bool `name:"join" doc:"Join controllers that are running and have been told of this one." change:"A controller is added or replaced."`
	// Recovery is auto or manual.
	Recovery string `name:"recovery" doc:"Who leads a partition in memory when none of its replicas can be trusted to have everything: auto, the one that has the most, or manual, nobody until the loss is accepted." change:"Records in memory are worth waiting for somebody to look."`
	// LogLevel is debug, info, warn or error.
	LogLevel string `name:"log-level" doc:"Least level that is logged: debug, info, warn or error." change:"Something is to be found out."`
	// LogFormat is auto, text or json.
	LogFormat string `name:"log-format" doc:"Form of the log: text, json, or auto (text on a terminal)." change:"Logs are collected by a program that wants the other form."`
}

// The recoveries.
const (
	RecoveryAuto   = "auto"
	RecoveryManual = "manual"
)

// Peer is one of the controllers.
type Peer struct {
	// ID is its identity.
	ID int32
	// URL is where the others reach it.
	URL string
}

// PeerList returns the controllers. It fails if one is not ID=HOST:PORT.
func (c *Config) PeerList() ([]Peer, error) {
	var peers []Peer
	for _, p := range c.Peers {
		id, addr, _ := strings.Cut(p, "=")
		n, err := strconv.ParseInt(id, 10, 32)
		if host, ok := splitAddr(addr); err != nil || n < 0 || !ok || host == "" {
			return nil, fmt.Errorf("%q is not ID=HOST:PORT", p)
		}
		peers = append(peers, Peer{ID: int32(n), URL: c.peerScheme() + "://" + addr})
	}
	return peers, nil
}

// BalanceTimes returns between which times of day auto-balance begins to move
// something; equal: always. It fails if the window is not HH:MM-HH:MM.
func (c *Config) BalanceTimes() (from, to time.Duration, err error) {
	if c.AutoBalanceWindow == "" {
		return 0, 0, nil
	}
	first, last, _ := strings.Cut(c.AutoBalanceWindow, "-")
	a, err := time.Parse("15:04", first)
	b, err2 := time.Parse("15:04", last)
	if err != nil || err2 != nil || a.Equal(b) {
		return 0, 0, fmt.Errorf("%q is not HH:MM-HH:MM, two times of day", c.AutoBalanceWindow)
	}
	return timeOfDay(a), timeOfDay(b), nil
}

func timeOfDay(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

// peerScheme is that of the URLs by which controllers reach each other.
func (c *Config) peerScheme() string {
	if c.HasInternalTLS() {
		return "https"
	}
	return "http"
}

// PeerListenURL returns where to listen for the other controllers; empty: there
// are none. REQUIRES: PeerList does not fail.
func (c *Config) PeerListenURL() string {
	if addr := c.peerListenAddr(); addr != "" {
		return c.peerScheme() + "://" + addr
	}
	return ""
}

// peerListenAddr is PeerAddr, or what the peers say of this one: a name that
// others reach it by is not an address to listen on, so then it is any.
func (c *Config) peerListenAddr() string {
	if c.PeerAddr != "" {
		return c.PeerAddr
	}
	for _, p := range c.Peers {
		id, addr, _ := strings.Cut(p, "=")
		if id != strconv.Itoa(int(c.ControllerID)) {
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if err == nil && host != "localhost" && net.ParseIP(host) == nil {
			return net.JoinHostPort("0.0.0.0", port)
		}
		return addr
	}
	return ""
}

// Serves returns where brokers reach the controller, which listens at that
// address; empty: nobody knows.
func (c *Config) Serves(listening string) string {
	if c.AdvertisedAddr != "" {
		return c.AdvertisedAddr
	}
	host, port, err := net.SplitHostPort(listening)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return listening
	}
	for _, p := range c.Peers {
		id, addr, _ := strings.Cut(p, "=")
		if own, _, err := net.SplitHostPort(addr); err == nil && id == strconv.Itoa(int(c.ControllerID)) {
			return net.JoinHostPort(own, port)
		}
	}
	return ""
}

// Default returns the settings of a controller that is told nothing.
func Default() Config {
	return Config{
		DataDir: "millstream-controller-data", ControllerAddr: "127.0.0.1:9653", SessionTimeout: 2 * time.Second,
		AutoBalance: true, Recovery: RecoveryAuto, LogLevel: "info", LogFormat: string(telemetry.FormatAuto),
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

// Validate refuses settings that cannot be. It names all of them.
func (c *Config) Validate() error {
	var errs []error
	refuse := func(name, why string) { errs = append(errs, &InvalidError{name, why}) }
	if c.ControllerID < 0 {
		refuse("id", "must not be negative")
	}
	if c.DataDir == "" {
		refuse("data-dir", "is empty")
	}
	if host, ok := splitAddr(c.ControllerAddr); !ok {
		refuse("addr", fmt.Sprintf("%q is not HOST:PORT", c.ControllerAddr))
	} else if ip := net.ParseIP(host); !c.Insecure && !c.HasInternalTLS() && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		refuse("addr", c.ControllerAddr+" can be reached from other machines, without TLS: name certificates with --internal-tls-cert, --internal-tls-key and --internal-tls-ca ('millstream cert issue' makes them), listen on 127.0.0.1, or allow it with --insecure")
	}
	if host, ok := splitAddr(c.AdvertisedAddr); c.AdvertisedAddr != "" && (!ok || host == "") {
		refuse("advertised-addr", fmt.Sprintf("%q is not HOST:PORT", c.AdvertisedAddr))
	}
	if host, ok := splitAddr(c.HTTPAddr); c.HTTPAddr != "" {
		switch ip := net.ParseIP(host); {
		case !ok:
			refuse("http-addr", fmt.Sprintf("%q is not HOST:PORT", c.HTTPAddr))
		case !c.Insecure && host != "localhost" && (ip == nil || !ip.IsLoopback()):
			refuse("http-addr", c.HTTPAddr+" can be reached from other machines, and is served without TLS: listen on 127.0.0.1, or allow it with --insecure")
		}
	}
	files := []struct{ name, file string }{
		{"internal-tls-cert", c.InternalTLSCert}, {"internal-tls-key", c.InternalTLSKey}, {"internal-tls-ca", c.InternalTLSCA},
	}
	if c.InternalTLSCert != "" || c.InternalTLSKey != "" || c.InternalTLSCA != "" {
		for _, f := range files {
			if f.file == "" {
				refuse(f.name, "is missing: TLS between processes needs internal-tls-cert, internal-tls-key and internal-tls-ca")
			}
		}
	}
	for _, why := range c.peersRefused() {
		refuse("peers", why)
	}
	if addr := c.peerListenAddr(); addr != "" {
		host, ok := splitAddr(addr)
		switch ip := net.ParseIP(host); {
		case !ok || host != "localhost" && ip == nil:
			refuse("peer-addr", fmt.Sprintf("%q is not HOST:PORT with an IP address or localhost", addr))
		case len(c.Peers) == 0:
			refuse("peer-addr", "is of no use without peers")
		case !c.Insecure && !c.HasInternalTLS() && host != "localhost" && !ip.IsLoopback():
			refuse("peer-addr", addr+" can be reached from other machines, without TLS: name certificates with --internal-tls-cert, --internal-tls-key and --internal-tls-ca ('millstream cert issue' makes them), listen on 127.0.0.1, or allow it with --insecure")
		}
	}
	if c.Recovery != RecoveryAuto && c.Recovery != RecoveryManual {
		refuse("recovery", "must be auto or manual")
	}
	if c.SessionTimeout < 100*time.Millisecond {
		refuse("session-timeout", "must be at least 100ms")
	}
	if c.MoveBytes < 0 {
		refuse("move-bytes-per-second", "must not be negative")
	}
	if _, _, err := c.BalanceTimes(); err != nil {
		refuse("auto-balance-window", err.Error())
	}
	if _, err := telemetry.ParseLevel(c.LogLevel); err != nil {
		refuse("log-level", err.Error())
	}
	if _, err := telemetry.ParseFormat(c.LogFormat); err != nil {
		refuse("log-format", err.Error())
	}
	return errors.Join(errs...)
}

// HasInternalTLS tells whether there is TLS between processes.
func (c *Config) HasInternalTLS() bool { return c.InternalTLSCert != "" }

// peersRefused says what is wrong with the peers.
func (c *Config) peersRefused() []string {
	peers, err := c.PeerList()
	switch n := len(peers); {
	case err != nil:
		return []string{err.Error()}
	case n == 0:
		return nil
	case !c.Join && n != 1 && n != 3 && n != 5: // one at a time is added to those that run
		return []string{fmt.Sprintf("are %d; 1, 3 or 5 controllers bear as many failures as one more would", n)}
	}
	var why []string
	seen := map[int32]bool{}
	for _, p := range peers {
		if seen[p.ID] {
			why = append(why, fmt.Sprintf("have controller %d twice", p.ID))
		}
		seen[p.ID] = true
	}
	if !seen[c.ControllerID] {
		why = append(why, fmt.Sprintf("lack controller %d, this one", c.ControllerID))
	}
	return why
}

func splitAddr(addr string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return host, err == nil
}
