package api_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func one(restart bool) *pb.ProduceRequest {
	return &pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v"), Restart: restart}
}

func TestFullDiskIsSaidAndOrderKept(t *testing.T) {
	disk := faultfs.Wrap(memfs.New())
	s := servertest.Start(t, servertest.Options{FS: disk})
	s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	if r := p.ask(one(false)); r.GetError() != nil {
		t.Fatal(r.GetError())
	}
	disk.SetRoom(0)
	r := p.ask(one(false))
	wantError(t, r.GetError(), codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_DISK_FULL)
	if !r.GetError().GetRetryable() {
		t.Error("not retryable, though nothing was written")
	}
	if after := r.GetError().GetRetryAfterMs(); after != 1000 {
		t.Errorf("to be sent again after %d ms", after)
	}
	disk.SetRoom(-1)
	// There is room again, but what comes now would overtake what failed.
	wantError(t, p.ask(one(false)).GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED)
	if r := p.ask(one(true)); r.GetBaseOffset() != 1 || r.GetError() != nil {
		t.Errorf("got %v", r)
	}
	if r := p.ask(one(false)); r.GetBaseOffset() != 2 || r.GetError() != nil {
		t.Errorf("got %v", r)
	}
	p.end(0)
	if all := readAll(t, s.Broker, &pb.ReadRequest{Topic: "t"}); len(all) != 3 {
		t.Errorf("%d records", len(all))
	}
}

func TestReadOnlyDiskIsSaid(t *testing.T) {
	disk := faultfs.Wrap(memfs.New())
	s := servertest.Start(t, servertest.Options{FS: disk})
	s.CreateTopic("t", 1)
	fill(t, s.Broker, "t", 0, "a")
	disk.SetReadOnly(true)
	p := openProducer(t, s.Broker)
	r := p.ask(one(false))
	wantError(t, r.GetError(), codes.Unavailable, pb.ErrorReason_ERROR_REASON_STORAGE_FAILED)
	if !strings.Contains(r.GetError().GetMessage(), "read-only") || strings.Contains(r.GetError().GetMessage(), "/data") {
		t.Errorf("got %v", r.GetError())
	}
	if all := readAll(t, s.Broker, &pb.ReadRequest{Topic: "t"}); len(all) != 1 {
		t.Errorf("%d records", len(all))
	}
	disk.SetReadOnly(false)
	if r := p.ask(one(true)); r.GetError() != nil {
		t.Errorf("writable again: %v", r)
	}
}

func TestFailedSyncLeavesTheOutcomeUnknown(t *testing.T) {
	disk := faultfs.Wrap(memfs.New())
	s := servertest.Start(t, servertest.Options{FS: disk, MayFail: true})
	s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	if r := p.ask(one(false)); r.GetError() != nil {
		t.Fatal(r.GetError())
	}
	disk.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*.log", Err: syscall.EIO})
	r := p.ask(one(false))
	wantError(t, r.GetError(), codes.Unknown, pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME)
	if r.GetError().GetRetryable() {
		t.Error("retryable, though it may have been written")
	}
	// The broker says so until the controller has heard of it and nobody leads.
	switch e := p.ask(one(true)).GetError(); e.GetReason() {
	case pb.ErrorReason_ERROR_REASON_STORAGE_FAILED, pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE:
	default:
		t.Fatalf("the next request: %v", e)
	}
	described, err := s.Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if why := described.GetPartitions()[0].GetOfflineReason(); why == "" || strings.Contains(why, "/data") {
		t.Errorf("offline reason %q", why)
	}
}

func TestDamageIsSaidAndNeverSilent(t *testing.T) {
	disk := memfs.New()
	s := servertest.Start(t, servertest.Options{FS: disk, Broker: func(o *broker.Options) { o.IdleAfter = 1 }})
	s.CreateTopic("t", 1)
	for range 3 {
		fill(t, s.Broker, "t", 0, "precious")
	}
	s.Stop()
	flip(t, disk, []byte("precious"))
	s.Restart()
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{Topic: "t"})
	var got []string
	r := f.next()
	for ; r.GetError() == nil; r = f.next() {
		got = append(got, values(t, r)...)
	}
	wantError(t, r.GetError(), codes.DataLoss, pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT)
	if len(got) > 1 {
		t.Errorf("got %q", got)
	}
	st, err := s.Broker.Read(t.Context(), &pb.ReadRequest{Topic: "t", Start: &pb.ReadRequest_Offset{Offset: 1}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Recv()
	wantStatus(t, err, codes.DataLoss, pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT)
	p := openProducer(t, s.Broker)
	wantError(t, p.ask(one(false)).GetError(), codes.DataLoss, pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT)
}

// flip changes a bit of the second occurrence of what in the logs.
func flip(t *testing.T, disk *memfs.FS, what []byte) {
	t.Helper()
	dirs, err := disk.ReadDir("/data/topics")
	if err != nil || len(dirs) != 1 {
		t.Fatal(dirs, err)
	}
	name := filepath.Join("/data/topics", dirs[0].Name(), "00000000000000000000.log")
	f, err := disk.OpenFile(name, os.O_RDWR, fs.FileMode(0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	first := bytes.Index(b, what)
	second := bytes.Index(b[first+1:], what)
	if first < 0 || second < 0 {
		t.Fatal("the log does not hold what was written")
	}
	at := int64(first + 1 + second)
	if _, err := f.WriteAt([]byte{b[at] ^ 1}, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
