package dev

import (
	"fmt"
	"net"
	"strings"
)

// Banner is what a dev server says when it is ready.
type Banner struct {
	Version string
	// GRPCAddr and HTTPAddr are where it listens.
	GRPCAddr, HTTPAddr string
	// InternalAddr is where a broker listens for brokers and controllers.
	InternalAddr string
	// DefaultAddr is what the command line takes without --addr.
	DefaultAddr string
	// TLS says that both speak TLS only.
	TLS bool
	// DataDir is where records are; Temporary: they are lost at exit.
	DataDir   string
	Temporary bool
	// Topic is one that exists, for the examples; empty: none does.
	Topic string
}

// String returns the banner, with lines to copy and paste.
func (b *Banner) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "Millstream %s, dev server: controller and broker in one process, for development.\n", b.Version)
	tls := ""
	if b.TLS {
		tls = "  TLS; ca.crt below stands for the file of its authority"
	}
	fmt.Fprintf(&s, "  gRPC  %s%s\n", b.GRPCAddr, tls)
	fmt.Fprintf(&s, "  HTTP  %s://%s  (/v1 /openapi.json /metrics /healthz /readyz)\n", b.scheme(), b.HTTPAddr)
	if b.Temporary {
		fmt.Fprintf(&s, "  data  %s  TEMPORARY: all data is lost at exit; keep it with --data-dir DIR\n", b.DataDir)
	} else {
		fmt.Fprintf(&s, "  data  %s\n", b.DataDir)
	}
	s.WriteString("Try:\n")
	for _, line := range b.examples() {
		s.WriteString("  " + line + "\n")
	}
	return s.String()
}

func (b *Banner) scheme() string {
	if b.TLS {
		return "https"
	}
	return "http"
}

func (b *Banner) examples() []string {
	grpc, http := reachable(b.GRPCAddr), b.scheme()+"://"+reachable(b.HTTPAddr)
	cli, grpcurl, curl := "millstream ", "grpcurl -plaintext", "curl -s"
	if b.TLS {
		cli, grpcurl, curl = "millstream --tls-ca ca.crt ", "grpcurl -cacert ca.crt", "curl -s --cacert ca.crt"
	}
	if grpc != b.DefaultAddr {
		cli += "--addr " + grpc + " "
	}
	topic := b.Topic
	var lines []string
	if topic == "" {
		topic = "demo"
		lines = append(lines, cli+"topic create demo --partitions 1")
	}
	return append(lines,
		"echo hello | "+cli+"produce "+topic,
		cli+"consume "+topic+" --from earliest --until end",
		fmt.Sprintf(`%s -d '{"topic":"%s","records":[{"text":"hello"}]}' %s millstream.v1.BrokerService/Append`, grpcurl, topic, grpc),
		fmt.Sprintf(`%s %s/v1/topics/%s/records -d '{"records":[{"text":"hello"}]}'`, curl, http, topic),
		fmt.Sprintf(`%s %s/v1/topics/%s/partitions/0/records`, curl, http, topic),
	)
}

// reachable makes of an address to listen on one to connect to.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
