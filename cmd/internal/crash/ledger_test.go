package crash

import (
	"testing"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func stored(base int64, correlation uint64) *pb.LogBatch {
	return &pb.LogBatch{BaseOffset: base, LastOffsetDelta: batchRecords - 1, Batch: request(correlation, 0).GetBatch()}
}

func TestMatchTakesWhatWasAcknowledged(t *testing.T) {
	want := []acked{{base: 10, correlation: 1}, {base: 30, correlation: 3}}
	for _, b := range []*pb.LogBatch{stored(0, 9), stored(10, 1), stored(20, 2), stored(30, 3), stored(40, 4)} {
		var err error
		if want, err = match(b, want); err != nil {
			t.Fatal(err)
		}
	}
	if len(want) != 0 {
		t.Fatalf("left over: %v", want)
	}
}

func TestMatchFindsLoss(t *testing.T) {
	damaged := stored(10, 1)
	damaged.Batch.Records[3].Value[0] ^= 1
	short := stored(10, 1)
	short.Batch.Records = short.Batch.Records[:9]
	for name, b := range map[string]*pb.LogBatch{
		"another batch at the offset": stored(10, 2),
		"the offset is passed over":   stored(20, 2),
		"a value is changed":          damaged,
		"a record is missing":         short,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := match(b, []acked{{base: 10, correlation: 1}}); err == nil {
				t.Fatal("not found")
			}
		})
	}
}
