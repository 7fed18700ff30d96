package dev

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	controllerconfig "github.com/millstream-io/millstream/controller/config"
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
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
	// each is all of them, for what any serves; active is whichever is active.
	each   []controllerv1.ControllerServiceClient
	active controllerv1.ControllerServiceClient
	conns  []*grpc.ClientConn
}

// newControllers makes the services of connections, which it owns from now on.
func newControllers(conns []*grpc.ClientConn, logger *slog.Logger) (*controllers, error) {
	cs := &controllers{conns: conns}
	var all []grpc.ClientConnInterface
	for _, conn := range conns {
		cs.each = append(cs.each, controllerv1.NewControllerServiceClient(conn))
		all = append(all, conn)
	}
	q, err := quorum.New(quorum.Options{Controllers: all, Logger: logger})
	if err != nil {
		cs.close()
		return nil, err
	}
	cs.active = q.Client()
	return cs, nil
}

// dialControllers connects when it is first used; with certificates only to
// controllers that have theirs.
func dialControllers(addrs []string, internal *tlsfile.Source, logger *slog.Logger) (*controllers, error) {
	creds := insecure.NewCredentials()
	if internal != nil {
		creds = internal.ClientCredentials(pki.RoleController)
	}
	var conns []*grpc.ClientConn
	for _, addr := range addrs {
		conn, err := grpc.NewClient("passthrough:///"+addr, append(rpc.MemberOptions(), grpc.WithTransportCredentials(creds))...)
		if err != nil {
			(&controllers{conns: conns}).close()
			return nil, err
		}
		conns = append(conns, conn)
	}
	return newControllers(conns, logger)
}

// close closes the connections. Nothing is on its way when the broker has
// ended.
func (cs *controllers) close() {
	for _, conn := range cs.conns {
		_ = conn.Close()
	}
}
