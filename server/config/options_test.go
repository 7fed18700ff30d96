package config

import (
	"testing"

	"github.com/millstream-io/millstream/server/api"
)

// What a broker forwards must not take the streams that replication needs.
func TestForwardedCallsLeaveStreamsToReplication(t *testing.T) {
	if most := api.DefaultLimits().ForwardedCalls; most > internalStreams-100 {
		t.Errorf("%d calls may be forwarded of %d streams", most, internalStreams)
	}
}
