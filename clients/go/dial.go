package millstream

import (
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// anyOf is the scheme of targets that stand for several addresses.
const anyOf = "millstream"

// InvalidAddressError names an address that cannot be dialled.
type InvalidAddressError struct {
	// Addr is the list, Part what is wrong in it.
	Addr, Part string
}

// Error names it.
func (e *InvalidAddressError) Error() string {
	return fmt.Sprintf("millstream: address %q: %q is not HOST:PORT", e.Addr, e.Part)
}

// Dial returns a connection to one of the brokers at addr: HOST:PORT, several
// of them separated by commas, or a gRPC target. Of several it connects to the
// first that answers, and when that one is lost, to the next that does. It
// connects when it is first used; Close it.
//
// [New] uses it. It is for stubs that need no [Client].
func Dial(addr string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if !strings.Contains(addr, ",") {
		conn, err := grpc.NewClient(addr, opts...)
		if err != nil {
			return nil, fmt.Errorf("millstream: address %q: %w", addr, err)
		}
		return conn, nil
	}
	var all []resolver.Address
	for part := range strings.SplitSeq(addr, ",") {
		part = strings.TrimSpace(part)
		host, port, err := net.SplitHostPort(part)
		if err != nil || host == "" || port == "" {
			return nil, &InvalidAddressError{Addr: addr, Part: part}
		}
		// Each is known by its own name to TLS.
		all = append(all, resolver.Address{Addr: part, ServerName: host})
	}
	r := manual.NewBuilderWithScheme(anyOf)
	r.InitialState(resolver.State{Addresses: all})
	conn, err := grpc.NewClient(anyOf+":///brokers", append(opts, grpc.WithResolvers(r))...)
	if err != nil {
		return nil, fmt.Errorf("millstream: address %q: %w", addr, err)
	}
	return conn, nil
}
