package config

import (
	"time"

	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/gateway"
	"github.com/millstream-io/millstream/server/rpc"
)

// Broker returns the options of the broker that follow from the settings. Who
// builds it adds its connections, log and metrics.
func (c *Config) Broker() broker.Options {
	return broker.Options{
		ID: c.BrokerID, DataDir: c.DataDir, Address: c.AdvertisedAddr, InternalAddress: c.InternalAdvertisedAddr, Rack: c.Rack,
		ReplicaLag: c.ReplicaLag, SlowDisk: c.SlowDisk, ScrubBytes: int64(c.ScrubBytes),
		MaxSyncs: c.MaxSyncs, MaxOpenFiles: c.MaxOpenFiles, InFlightBytes: int64(c.InFlightBytes),
		RetentionInterval: c.RetentionInterval, TrashKeep: c.TrashKeep,
		DiskHighWater: float64(c.DiskHighWaterPercent) / 100,
	}
}

// API returns the limits of the services.
func (c *Config) API() api.Limits {
	return api.Limits{
		StreamInFlightBytes: int64(c.StreamInFlightBytes),
		ReadingBytes:        int64(c.FetchInFlightBytes),
		FrameBytes:          int(c.FetchFrameBytes), StallTimeout: c.StallTimeout,
	}
}

// Gateway returns the limits of HTTP.
func (c *Config) Gateway() gateway.Limits {
	return gateway.Limits{Connections: c.MaxConnections, StallTimeout: c.StallTimeout}
}

// internalStop is how long calls of other processes get when the broker stops.
const internalStop = time.Second

// internalStreams is how many calls another process may have at a time: it has
// one connection for all that it does. Brokers leave some of them to replication
// (api.Limits.ForwardedCalls).
const internalStreams = rpc.MemberMaxStreams

// InternalServer returns the options of the gRPC server for brokers and
// controllers.
func (c *Config) InternalServer() rpc.Options {
	return rpc.Options{
		Name: "internal", MaxStreams: internalStreams, MaxConnections: c.MaxConnections, MinPingInterval: rpc.MemberMinPingInterval,
		PingAfter: rpc.MemberPingAfter, PingTimeout: rpc.MemberPingTimeout,
		// Nobody there waits for more than the local logs, and it stops after the
		// public server has.
		StopTimeout: min(c.StopTimeout, internalStop),
	}
}

// Server returns the options of the public gRPC server.
func (c *Config) Server() rpc.Options {
	return rpc.Options{
		Name: "public", MaxStreams: c.MaxStreams, MaxConnections: c.MaxConnections, StopTimeout: c.StopTimeout,
	}
}
