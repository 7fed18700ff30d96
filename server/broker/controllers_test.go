package broker

import (
	"slices"
	"testing"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func TestControllersAreKnownAtTheNextStart(t *testing.T) {
	fsys := memfs.New()
	if err := fsys.MkdirAll("data", 0o755); err != nil {
		t.Fatal(err)
	}
	b := &Broker{opts: Options{FS: fsys, DataDir: "data"}, errand: newErrands()}
	known := func(configured ...string) []string {
		t.Helper()
		got, err := KnownControllers(fsys, "data", configured)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := known("c0:1", "c1:1"); got != nil {
		t.Errorf("before anything was said: %v", got)
	}
	b.KeepControllers([]string{"c0:1", "c1:1"}, []string{"c3:1", "c4:1"})
	if got := known("c0:1", "c1:1"); got != nil {
		t.Errorf("it is written at once: %v", got)
	}
	for _, e := range b.errand.waiting {
		e.run()
	}
	if got := known("c0:1", "c1:1"); !slices.Equal(got, []string{"c3:1", "c4:1"}) {
		t.Errorf("known are %v", got)
	}
	// Who says something else than before means that.
	if got := known("c0:1"); got != nil {
		t.Errorf("started with others: %v", got)
	}
	if err := checkpoint.Write(fsys, controllersPath("data"), []byte("{"), true); err != nil {
		t.Fatal(err)
	}
	if got, err := KnownControllers(fsys, "data", []string{"c0:1"}); err == nil {
		t.Errorf("what is damaged says %v", got)
	}
}
