package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// readyPoll is how often a member is asked whether it is ready, askTimeout how
// long it may take to say so.
const (
	readyPoll  = 20 * time.Millisecond
	askTimeout = time.Second
)

// AwaitReady waits until it serves: a broker until produce works, a controller
// until some controller is active. It fails when the process ends, or ctx does.
func (m *Member) AwaitReady(ctx context.Context) error {
	p := m.last()
	if p == nil {
		return fmt.Errorf("%s does not run", m.Name())
	}
	ask := m.askBroker
	if m.Kind == controllerKind {
		conn, err := grpc.NewClient("passthrough:///"+m.GRPCAddr, grpc.WithTransportCredentials(credentials.NewTLS(m.cluster.observer)))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // it was only asked
		health := grpc_health_v1.NewHealthClient(conn)
		ask = func(ctx context.Context) bool {
			r, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
			return err == nil && r.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
		}
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		ready := ask(asking)
		cancel()
		if ready {
			return nil
		}
		select {
		case <-p.exited:
			return m.ended(p)
		case <-ctx.Done():
			return fmt.Errorf("%s did not become ready: %w; the end of its log:\n%s", m.Name(), context.Cause(ctx), m.tail())
		case <-tick.C:
		}
	}
}

// askBroker tells whether a broker says that produce works.
func (m *Member) askBroker(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.HTTPAddr+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := m.cluster.http.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // nothing is read from it
	return resp.StatusCode == http.StatusOK
}

// ActiveController returns the controller that is active as some broker sees
// it, which may be a moment behind.
func (c *Cluster) ActiveController(ctx context.Context) (*Member, error) {
	var errs []error
	for _, b := range c.Brokers() {
		if !b.Running() {
			continue
		}
		id, err := b.activeController(ctx)
		if m := c.Controller(int(id)); err == nil && m != nil {
			return m, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no broker knows the active controller: %w", errors.Join(errs...))
}

// activeController asks a broker which controller is active; -1: it knows none.
func (m *Member) activeController(ctx context.Context) (int32, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+m.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return -1, err
	}
	defer func() { _ = conn.Close() }() // it was only asked
	r, err := pb.NewClusterServiceClient(conn).DescribeCluster(ctx, &pb.DescribeClusterRequest{})
	if err != nil {
		return -1, err
	}
	return r.GetActiveControllerId(), nil
}
