package check

// Rule names a rule; the numbers beginning with R are those of the Jepsen
// checker for Kafka and our additions to them, the others those of the rules of
// the design.
type Rule string

// The rules that are checked.
const (
	Whole       Rule = "history"
	R1          Rule = "R1"
	R2          Rule = "R2"
	R3          Rule = "R3"
	R4          Rule = "R4"
	R5          Rule = "R5"
	R6          Rule = "R6"
	R8          Rule = "R8"
	R9          Rule = "R9"
	R10         Rule = "R10"
	R11         Rule = "R11"
	R14         Rule = "R14"
	R15         Rule = "R15"
	R16         Rule = "R16"
	R17         Rule = "R17"
	R23         Rule = "R23"
	R24         Rule = "R24"
	R25         Rule = "R25"
	R26         Rule = "R26"
	ValidLog    Rule = "F5"
	AckSays     Rule = "H1"
	RecoveryCut Rule = "S2"
	StartMoves  Rule = "S7"
)

// Description is a rule in words.
type Description struct {
	Rule  Rule
	Title string
	// Needs is what a history must hold for the rule to be checked.
	Needs string
}

// Rules returns the rules that are checked, in the order in which they are
// reported.
func Rules() []Description {
	return []Description{
		{Whole, "the history is one that recorders can have written", "events"},
		{R1, "an offset holds one value, whoever looks", "a batch seen twice"},
		{R2, "a batch is in the log once, or as often as it was sent", "batches at offsets"},
		{R3, "no reader passes an acknowledged batch without getting it", "acknowledgements and reads"},
		{R4, "a last read, and every complete replica, has all that was acknowledged where it was acknowledged", "read.begin with drain, or log.dump"},
		{R5, "a last read ends, and nothing acknowledged before it was never delivered", "read.begin with drain"},
		{R6, "what failed is in no log", "append.fail"},
		{R8, "the batches of one frame follow each other", "frames of two batches"},
		{R9, "each frame goes on where the one before it ended", "readers with two frames"},
		{R10, "the batches of one session are in the order in which they were sent", "sessions with two batches"},
		{R11, "no offset is missing but those of control batches", "reads or log.dump"},
		{R14, "an append, a read to the end, see all that was acknowledged before they began; nothing is read before it was appended", "appends"},
		{R15, "the high watermark does not go back, covers what is delivered and no more than the in-sync replicas have, and who leads next has all below it", "reads or hw"},
		{R16, "one leader acknowledges in an epoch, and none of an older epoch after it", "acknowledgements or leader.begin"},
		{R17, "replicas are the same below the high watermark", "log.dump of two brokers"},
		{R23, "a reader begins where it asked to, and never jumps without an error", "reads"},
		{R24, "all that is told of the metadata goes by one order: a version has one value, a leader epoch one leader, nobody misses a version or goes back, and a change comes behind all that was told before", "metadata, topic.read or settings"},
		{R25, "what is acknowledged on disk was synced by at least the effective min ISR before", "acknowledgements and log.synced"},
		{R26, "a partition takes appends again soon after what kept it from that was mended", "fault.begin, fault.end and appends"},
		{ValidLog, "leader epochs never fall along the log, and a batch has one", "batches at offsets"},
		{AckSays, "an acknowledgement says what was asked for, and holds what the partition promises", "acknowledgements"},
		{RecoveryCut, "nothing synced is missing after a restart, nothing committed is truncated", "log.written, log.cut or log.truncated"},
		{StartMoves, "the log start never goes back, and not beyond the high watermark", "log.start or reads"},
	}
}
