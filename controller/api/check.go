package api

import (
	"fmt"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

const (
	idBytes           = 16
	maxBrokerID       = 1<<20 - 1
	maxAddressBytes   = 255 + len(":65535")
	maxTextBytes      = 255
	maxRequestIDBytes = 64
	maxFailedDirs     = 64
	maxRecoveredLogs  = 1_000
	maxUnreachable    = 64
	maxMovesTold      = 1_000
	maxProposals      = 1_000
	maxInSync         = 64
	maxPartition      = topicconfig.MaxPartitions - 1
)

// FieldError says that a field of a request is not acceptable.
type FieldError struct {
	// Field is its name.
	Field string
	// Why is what is wrong with it, to follow the name.
	Why string
}

// Error says it for people.
func (e *FieldError) Error() string { return e.Field + " " + e.Why }

func checkRegistration(r *controllerv1.RegisterBrokerRequest) error {
	for _, err := range []error{
		checkBroker(r.GetBrokerId()),
		checkID("directory_id", r.GetDirectoryId(), false),
		checkID("cluster_id", r.GetClusterId(), true),
		checkText("address", r.GetAddress(), maxAddressBytes),
		checkText("internal_address", r.GetInternalAddress(), maxAddressBytes),
		checkText("rack", r.GetRack(), maxTextBytes),
		checkText("version", r.GetVersion(), maxTextBytes),
		checkText("incarnation_id", string(r.GetIncarnationId()), maxRequestIDBytes),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case r.GetAddress() == "":
		return &FieldError{"address", "is empty: clients could not reach the broker"}
	case r.GetPreviousBrokerEpoch() < 0:
		return &FieldError{"previous_broker_epoch", "is negative"}
	case r.GetFeatureLevelMin() > r.GetFeatureLevelMax():
		return &FieldError{"feature_level_min", "is above feature_level_max"}
	}
	return nil
}

func checkHeartbeat(r *controllerv1.HeartbeatRequest) error {
	if err := checkBroker(r.GetBrokerId()); err != nil {
		return err
	}
	switch {
	case r.GetBrokerEpoch() <= 0:
		return &FieldError{"broker_epoch", "is not one that was given out"}
	case r.GetRevision() < 0:
		return &FieldError{"revision", "is negative"}
	case len(r.GetFailedDirectoryIds()) > maxFailedDirs:
		return &FieldError{"failed_directory_ids", fmt.Sprintf("has more than %d", maxFailedDirs)}
	case len(r.GetRecoveredLogs()) > maxRecoveredLogs:
		return &FieldError{"recovered_logs", fmt.Sprintf("has more than %d", maxRecoveredLogs)}
	case len(r.GetMoves()) > maxMovesTold:
		return &FieldError{"moves", fmt.Sprintf("has more than %d", maxMovesTold)}
	case len(r.GetUnreachableBrokers()) > maxUnreachable:
		return &FieldError{"unreachable_brokers", fmt.Sprintf("has more than %d", maxUnreachable)}
	}
	for i, l := range r.GetRecoveredLogs() {
		field := fmt.Sprintf("recovered_logs[%d]", i)
		if err := checkLog(field, l.GetTopicId(), l.GetPartition()); err != nil {
			return err
		}
		if l.GetLastLeaderEpoch() < 0 || l.GetEnd() < 0 {
			return &FieldError{field, "has a negative epoch or end"}
		}
	}
	return nil
}

func checkAlterPartition(r *controllerv1.AlterPartitionRequest) error {
	if err := checkBroker(r.GetBrokerId()); err != nil {
		return err
	}
	switch {
	case r.GetBrokerEpoch() <= 0:
		return &FieldError{"broker_epoch", "is not one that was given out"}
	case len(r.GetProposals()) > maxProposals:
		return &FieldError{"proposals", fmt.Sprintf("has more than %d", maxProposals)}
	}
	seen := make(map[string]bool, len(r.GetProposals()))
	for i, p := range r.GetProposals() {
		field := fmt.Sprintf("proposals[%d]", i)
		if err := checkLog(field, p.GetTopicId(), p.GetPartition()); err != nil {
			return err
		}
		switch name := fmt.Sprintf("%x/%d", p.GetTopicId(), p.GetPartition()); {
		case seen[name]:
			return &FieldError{field, "is for the same partition as one before"}
		case len(p.GetInSyncReplicas()) > maxInSync:
			return &FieldError{field + ".in_sync_replicas", fmt.Sprintf("has more than %d", maxInSync)}
		default:
			seen[name] = true
		}
		if err := checkInSync(field, r.GetBrokerId(), p); err != nil {
			return err
		}
	}
	return nil
}

// checkInSync refuses a proposal that cannot be: the leader is always in sync.
func checkInSync(field string, leader int32, p *controllerv1.InSyncProposal) error {
	if p.GetHandOver() {
		if len(p.GetInSyncReplicas()) > 0 {
			return &FieldError{field + ".in_sync_replicas", "goes without hand_over"}
		}
		return nil
	}
	members := make(map[int32]bool, len(p.GetInSyncReplicas()))
	for _, m := range p.GetInSyncReplicas() {
		if members[m.GetBrokerId()] {
			return &FieldError{field + ".in_sync_replicas", fmt.Sprintf("has broker %d twice", m.GetBrokerId())}
		}
		members[m.GetBrokerId()] = true
	}
	if !members[leader] {
		return &FieldError{field + ".in_sync_replicas", fmt.Sprintf("lacks broker %d, which proposes it", leader)}
	}
	return nil
}

func checkLog(field string, topic []byte, partition uint32) error {
	if err := checkID(field+".topic_id", topic, false); err != nil {
		return err
	}
	if partition > maxPartition {
		return &FieldError{field + ".partition", fmt.Sprintf("must be 0 to %d, not %d", maxPartition, partition)}
	}
	return nil
}

func checkCreateTopic(r *controllerv1.CreateTopicRequest) error {
	if err := topicconfig.ValidateNewName(r.GetTopic()); err != nil {
		return err
	}
	switch {
	case r.GetPartitionCount() > topicconfig.MaxPartitions:
		return &FieldError{"partition_count", fmt.Sprintf("must be 1 to %d, not %d", topicconfig.MaxPartitions, r.GetPartitionCount())}
	case r.GetReplicationFactor() > topicconfig.MaxReplicationFactor:
		return &FieldError{"replication_factor", fmt.Sprintf("must be 1 to %d, not %d", topicconfig.MaxReplicationFactor, r.GetReplicationFactor())}
	}
	if _, err := topicconfig.Parse(r.GetConfig()); err != nil {
		return err
	}
	return checkText("request_id", r.GetRequestId(), maxRequestIDBytes)
}

func checkUpdateTopicConfig(r *controllerv1.UpdateTopicConfigRequest) error {
	if err := topicconfig.ValidateName(r.GetTopic()); err != nil {
		return err
	}
	// Each alone; together with what is set already, the loop checks them.
	if _, _, err := topicconfig.Change(nil, r.GetSet(), r.GetReset_()); err != nil {
		return err
	}
	if r.ExpectedRevision != nil && r.GetExpectedRevision() < 0 {
		return &FieldError{"expected_revision", "is negative"}
	}
	return checkText("request_id", r.GetRequestId(), maxRequestIDBytes)
}

func checkDeleteTopic(r *controllerv1.DeleteTopicRequest) error {
	if err := topicconfig.ValidateNewName(r.GetTopic()); err != nil { // the system's are not deleted by request
		return err
	}
	if err := checkID("topic_id", r.GetTopicId(), true); err != nil {
		return err
	}
	return checkText("request_id", r.GetRequestId(), maxRequestIDBytes)
}

func checkBroker(id int32) error {
	if id < 0 || id > maxBrokerID {
		return &FieldError{"broker_id", fmt.Sprintf("must be 0 to %d, not %d", maxBrokerID, id)}
	}
	return nil
}

func checkID(field string, id []byte, optional bool) error {
	if len(id) == idBytes || optional && len(id) == 0 {
		return nil
	}
	return &FieldError{field, fmt.Sprintf("must have %d bytes, not %d", idBytes, len(id))}
}

func checkText(field, s string, most int) error {
	if len(s) > most {
		return &FieldError{field, fmt.Sprintf("must have at most %d bytes, not %d", most, len(s))}
	}
	return nil
}
