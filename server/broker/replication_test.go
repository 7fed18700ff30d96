package broker

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// A call for hand-overs ends before the first of the leaders gives up, and what
// has been given up is not asked for.
func TestHandOversAreAskedForInTime(t *testing.T) {
	logs := []*localLog{{}, {}, {}, {}}
	ps := []replica.Proposal{
		{HandOver: true, Until: 10*time.Second + handOverLeast/2}, {HandOver: true, Until: 10*time.Second + 600*time.Millisecond},
		{HandOver: true, Until: 11 * time.Second}, {HandOver: true, Until: 9 * time.Second},
	}
	second := logs[1]
	gotLogs, got, timeout := inTime(logs, ps, 10*time.Second)
	if len(got) != 2 || len(gotLogs) != 2 || gotLogs[0] != second || got[1].Until != 11*time.Second || timeout != 600*time.Millisecond {
		t.Errorf("%d of %d logs, %+v within %v", len(gotLogs), 4, got, timeout)
	}
	if _, got, timeout := inTime([]*localLog{{}}, []replica.Proposal{{}}, 10*time.Second); len(got) != 1 || timeout != proposeTimeout {
		t.Errorf("of who is in sync: %+v within %v", got, timeout)
	}
}
