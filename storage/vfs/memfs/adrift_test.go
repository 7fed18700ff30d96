package memfs_test

import (
	"testing"

	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestFailedSyncOfADirectoryIsFinal: what a sync of a directory has lost is seen
// on, and no later sync brings it to the disk; until the name is made or removed
// anew.
func TestFailedSyncOfADirectoryIsFinal(t *testing.T) {
	d := newDisk(t)
	old, other := d.create("/d/old"), d.create("/d/other")
	d.write(old, 0, "old")
	d.write(other, 0, "other")
	d.must(old.Sync())
	d.must(other.Sync())
	d.must(d.SyncDir("/d"))

	made := d.create("/d/made")
	d.write(made, 0, "made")
	d.must(made.Sync())
	d.must(d.Remove("/d/old"))
	d.must(d.Rename("/d/other", "/d/moved"))
	d.FailSyncDir("/d")
	later := d.create("/d/later")
	d.must(later.Sync())
	d.must(d.SyncDir("/d"))

	seen := func(d disk, names map[string]string) {
		t.Helper()
		for name, want := range names {
			d.has("/d/"+name, want)
		}
	}
	now := map[string]string{"made": "made", "old": "<none>", "moved": "other", "other": "<none>", "later": ""}
	seen(d, now)
	seen(disk{FS: d.Clone(), t: t}, now)
	for _, p := range []memfs.Policy{memfs.KeepUnsynced(), memfs.LoseWrites()} {
		seen(disk{FS: d.Crash(p), t: t}, now)
	}
	was := map[string]string{"made": "<none>", "old": "old", "moved": "<none>", "other": "other", "later": ""}
	for _, p := range []memfs.Policy{memfs.LoseUnsynced(), memfs.LoseEntries()} {
		seen(disk{FS: d.Crash(p), t: t}, was)
		seen(disk{FS: d.Clone().Crash(p), t: t}, was)
	}
	if _, entries := d.Unsynced(); !entries {
		t.Error("nothing is at risk")
	}

	// Anew.
	d.must(d.Rename("/d/made", "/d/made.1"))
	d.must(d.Rename("/d/made.1", "/d/made"))
	d.must(d.create("/d/old").Sync())
	d.must(d.Remove("/d/old"))
	d.must(d.Rename("/d/moved", "/d/other"))
	seen(disk{FS: d.Crash(memfs.LoseUnsynced()), t: t}, was)
	d.must(d.SyncDir("/d"))
	anew := map[string]string{"made": "made", "old": "<none>", "moved": "<none>", "other": "other", "later": ""}
	for seed := range uint64(20) {
		seen(disk{FS: d.Crash(memfs.KeepRandom(seed)), t: t}, anew)
	}
	seen(disk{FS: d.Crash(memfs.LoseUnsynced()), t: t}, anew)
}

// TestOfWhatIsAdriftAnyPartSurvives: a disk may have written it all the same.
func TestOfWhatIsAdriftAnyPartSurvives(t *testing.T) {
	d := newDisk(t)
	d.must(d.create("/d/a").Sync())
	d.FailSyncDir("/d")
	d.must(d.SyncDir("/d"))
	d.FailSyncDir("/nowhere")
	found := map[string]int{}
	for seed := range uint64(50) {
		found[content(d.Crash(memfs.KeepRandom(seed)), "/d/a")]++
	}
	if found[""] == 0 || found["<none>"] == 0 || len(found) != 2 {
		t.Errorf("found %v", found)
	}
}
