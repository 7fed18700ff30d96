package dev

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	controllerconfig "github.com/millstream-io/millstream/controller/config"
	"github.com/millstream-io/millstream/server/config"
	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/quorum"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/tlsfile"
)

// openInternal opens the certificates by which the processes of a cluster know
// each other; nil: there are none.
func openInternal(files tlsfile.Files, role pki.Role, id int32, logger *slog.Logger, reg *prometheus.Registry) (*tlsfile.Source, error) {
	if files.Cert == "" {
		return nil, nil
	}
	s, err := tlsfile.Open(tlsfile.Options{
		Use: "internal", Files: files, Role: role, ID: strconv.Itoa(int(id)), Logger: logger, Registerer: reg,
	})
	if err != nil {
		return nil, fmt.Errorf("--internal-tls-cert, --internal-tls-key, --internal-tls-ca: %w", err)
	}
	return s, nil
}

// internalOfBroker opens those of a broker.
func internalOfBroker(c *config.Config, logger *slog.Logger, reg *prometheus.Registry) (*tlsfile.Source, error) {
	files := tlsfile.Files{Cert: c.InternalTLSCert, Key: c.InternalTLSKey, CA: c.InternalTLSCA}
	return openInternal(files, pki.RoleBroker, c.BrokerID, logger, reg)
}

// internalOfController opens those of a controller.
func internalOfController(c *controllerconfig.Config, logger *slog.Logger, reg *prometheus.Registry) (*tlsfile.Source, error) {
	files := tlsfile.Files{Cert: c.InternalTLSCert, Key: c.InternalTLSKey, CA: c.InternalTLSCA}
	return openInternal(files, pki.RoleController, c.ControllerID, logger, reg)
}

// controllers are connections to the controllers.
type controllers struct {
	*quorum.Directory
}

// newControllers makes those of one connection within the process, which it
// owns from now on.
func newControllers(conn *grpc.ClientConn, logger *slog.Logger) (*controllers, error) {
	return directory(quorum.DirectoryOptions{
		Seeds: []string{"in process"}, Logger: logger,
		Dial: func(string) (quorum.Conn, error) { return conn, nil },
	})
}

// dialControllers connects when it is first used; with certificates only to
// controllers that have theirs. known are those of the last start, which are
// asked behind the others.
func dialControllers(addrs, known []string, internal *tlsfile.Source, logger *slog.Logger) (*controllers, error) {
	creds := insecure.NewCredentials()
	if internal != nil {
		creds = internal.ClientCredentials(pki.RoleController)
	}
	return directory(quorum.DirectoryOptions{
		Seeds: addrs, Known: known, Logger: logger,
		Dial: func(addr string) (quorum.Conn, error) {
			return grpc.NewClient("passthrough:///"+addr, append(rpc.MemberOptions(), grpc.WithTransportCredentials(creds))...)
		},
	})
}

func directory(o quorum.DirectoryOptions) (*controllers, error) {
	d, err := quorum.NewDirectory(o)
	if err != nil {
		return nil, err
	}
	return &controllers{d}, nil
}

// close closes the connections. Nothing is on its way when the broker has
// ended.
func (cs *controllers) close() { _ = cs.Close() }
