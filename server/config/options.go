package config

import (
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/rpc"
)

// Broker returns the options of the broker that follow from the settings. Who
// builds it adds its connections, log and metrics.
func (c *Config) Broker() broker.Options {
	return broker.Options{
		ID: c.BrokerID, DataDir: c.DataDir, Address: c.AdvertisedAddr, InternalAddress: c.AdvertisedAddr, Rack: c.Rack,
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

// Server returns the options of the public gRPC server.
func (c *Config) Server() rpc.Options {
	return rpc.Options{
		Name: "public", MaxStreams: c.MaxStreams, MaxConnections: c.MaxConnections, StopTimeout: c.StopTimeout,
	}
}
