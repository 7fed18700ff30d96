package servertest_test

import (
	"fmt"
	"testing"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// A broker that passes an Append on waits for the next leader when the disk of
// this one refuses it: nothing was written, so the caller hears of nothing.
func TestAnAppendOutlivesTheDiskOfALeader(t *testing.T) {
	disks := map[int32]*faultfs.FS{}
	c := servertest.StartCluster(t, servertest.ClusterOptions{Broker: func(o *broker.Options) {
		f := faultfs.Wrap(o.FS)
		disks[o.ID], o.FS = f, f
	}})
	fill(t, c, 3)
	sick := leaderOf(t, c)
	other := notLeading(c, sick)
	awaitInSync(t, sick)
	t.Cleanup(disks[sick.ID].Clear) // before the brokers stop
	disks[sick.ID].Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Times: -1})
	for n, behind := 3, 0; behind < 3; n++ {
		where, err := other.Broker.Append(t.Context(), &pb.AppendRequest{
			Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(n)}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := where.GetPlaces()[0].GetOffset(); got != int64(n) {
			t.Fatalf("record %d is at %d", n, got)
		}
		if s := other.Metadata.Current().TopicByName("orders"); s.Partitions[0].Leader != sick.ID && s.Partitions[0].Leader != metadata.NoLeader {
			behind++
		}
	}
}
