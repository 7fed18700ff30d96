package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"

	"github.com/millstream-io/millstream/controller/controllertest"
)

// smallDisk mounts a file system of 64 MiB for the test.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("mounting needs more rights: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all that is left of a disk.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A disk that others have filled takes no topics, but what there is goes on:
// leaders are elected, topics are deleted, the controller starts again.
func TestAFullDiskTakesNothingNew(t *testing.T) {
	ctx := bounded(t)
	disk := smallDisk(t)
	c := controllertest.Start(t, controllertest.In(filepath.Join(disk, "controller")))
	b := controllertest.StartBroker(t, c.Client, 1)
	create(ctx, t, c, "there", 100)
	create(ctx, t, c, "gone", 100)
	fill(t, filepath.Join(disk, "filled"))

	full := func(err error) {
		t.Helper()
		if e := rpc.RequestErrorOf(err); e.GetReason() != pb.ErrorReason_ERROR_REASON_DISK_FULL || !e.GetRetryable() {
			t.Errorf("on a full disk: %v", err)
		}
	}
	_, err := c.Client.CreateTopic(ctx, &controllerv1.CreateTopicRequest{Topic: "new", PartitionCount: 5000})
	full(err)
	_, err = c.Client.UpdateTopicConfig(ctx, &controllerv1.UpdateTopicConfigRequest{Topic: "there", Set: map[string]string{"durability": "memory"}})
	full(err)
	for range 20 {
		if _, err := b.Register(ctx); err != nil { // each elects 200 leaders twice
			t.Fatal(err)
		}
		if resp, err := b.Beat(ctx); err != nil || resp.GetFenced() {
			t.Fatal(resp, err)
		}
	}
	if _, err := c.Client.DeleteTopic(ctx, &controllerv1.DeleteTopicRequest{Topic: "gone"}); err != nil {
		t.Errorf("a topic cannot be deleted to make room: %v", err)
	}
	c.Stop(t)
	c = controllertest.Start(t, controllertest.In(c.Dir))
	again := controllertest.NewBroker(c.Client, 1)
	again.Epoch = b.Epoch
	if resp, err := again.Register(ctx); err != nil || !resp.GetEligible() {
		t.Fatal(resp, err)
	}
	if resp, err := again.Beat(ctx); err != nil || resp.GetFenced() {
		t.Fatal(resp, err)
	}
	v := watch(ctx, t, c, nil)
	v.until(t, again.Epoch)
	if len(v.topics) != 1 || len(v.deletions) != 1 {
		t.Errorf("after a restart there are %d topics and %d deletions", len(v.topics), len(v.deletions))
	}
	if err := os.Remove(filepath.Join(disk, "filled")); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		create(ctx, t, c, fmt.Sprint("new", i), 100)
	}
}
