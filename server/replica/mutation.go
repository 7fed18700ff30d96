package replica

// Mutation is a known mistake that the simulator has to find. Releases have
// none: without the build tag mutants the only one is Intact, and is constant.
type Mutation uint8

// The mutations.
const (
	// Intact is no mistake.
	Intact Mutation = iota
	// AckBeforeSync counts at Disk what is only written.
	AckBeforeSync
	// TruncateToHighWatermark lets a follower cut its log where it last knew the
	// high watermark, before it asks where the logs part (what KIP-101 mended).
	TruncateToHighWatermark
	// IgnoreMinISR moves the high watermark whatever the size of the ISR.
	IgnoreMinISR
	// StaleFrames lets a leader count acks, and a follower take pushes, of any
	// session and epoch, whoever has ended it.
	StaleFrames
	// SkipDivergence lets a leader take every follower's log for a beginning of
	// its own.
	SkipDivergence
	// UncleanReadd lets a leader propose replicas that have not caught up.
	UncleanReadd
	// HandOverEarly lets a leader ask for its successor before all that it has is
	// committed.
	HandOverEarly
)
