package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestABackupIsWrittenAndRestored(t *testing.T) {
	s := startSeveral(t, 2, 3)
	s.ok("topic", "create", "orders", "--partitions", "4", "--replication-factor", "2")
	dir := t.TempDir()
	file := filepath.Join(dir, "cluster.backup")
	out, _ := s.ok("cluster", "backup", "--out", file, "-o", "json")
	b := parsed[backupView](t, out)
	if b.Topics != 1 || b.Partitions != 4 || b.Brokers != 3 || b.Generation != 1 || len(b.ClusterID) != 32 {
		t.Errorf("it says %s", out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("beside it are %v, %v", list, err)
	}
	s.ok("cluster", "backup", "--out", file) // it is replaced

	data := filepath.Join(dir, "controller")
	dry := parsed[restoreView](t, s.restore(0, "", "--in", file, "--data-dir", data, "--dry-run"))
	if _, err := os.Stat(data); !dry.DryRun || dry.Generation != 2 || dry.Controllers != 1 || err == nil {
		t.Errorf("the dry run says %+v, and made the directory: %v", dry, err)
	}
	done := parsed[restoreView](t, s.restore(0, "", "--in", file, "--data-dir", data))
	if done.Identity != dry.Identity || done.Revision <= b.Revision || done.DryRun || done.Backup.Topics != 1 {
		t.Errorf("it says %+v", done)
	}
	s.restore(1, "is not empty", "--in", file, "--data-dir", data)
	other := filepath.Join(dir, "other")
	later := parsed[restoreView](t, s.restore(0, "", "--in", file, "--data-dir", other, "--generation", "7"))
	if later.Generation != 7 || later.Identity == done.Identity {
		t.Errorf("a later generation is %+v", later)
	}
}

// restore runs cluster restore, which needs no server.
func (s *several) restore(exit int, say string, args ...string) string {
	s.t.Helper()
	stdout, stderr, got := run(s.t, nil, append([]string{"cluster", "restore", "-o", "json"}, args...)...)
	if got != exit || !strings.Contains(stderr, say) {
		s.t.Fatalf("%q: exit %d, and it does not say %q\n%s%s", args, got, say, stdout, stderr)
	}
	return stdout
}

func TestWhatCannotBeRestoredIsSaid(t *testing.T) {
	s := startSeveral(t)
	dir := t.TempDir()
	file, torn, none := filepath.Join(dir, "cluster.backup"), filepath.Join(dir, "torn"), filepath.Join(dir, "none")
	s.ok("cluster", "backup", "--out", file)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(torn, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	for name, c := range map[string]struct {
		exit int
		say  string
		args []string
	}{
		"no file":                    {2, "--in FILE is missing", nil},
		"a file that is none":        {1, "no such file", []string{"--in", none}},
		"a torn one":                 {1, "torn", []string{"--in", torn}},
		"another file":               {1, "not a whole backup", []string{"--in", os.Args[0]}},
		"the generation that it has": {1, "generation 2 to", []string{"--in", file, "--generation", "1"}},
		"a controller that joins":    {2, "--join", []string{"--in", file, "--join", "--peers", "0=127.0.0.1:1"}},
		"peers without this one":     {2, "lack controller 9", []string{"--in", file, "--id", "9", "--peers", "0=127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.restore(c.exit, c.say, append(c.args, "--data-dir", data)...)
			if _, err := os.Stat(data); err == nil {
				t.Error("it made the directory")
			}
		})
	}
	s.t = t
	if _, stderr, exit := run(t, nil, "--addr", s.addr, "cluster", "backup"); exit != 2 || !strings.Contains(stderr, "--out FILE is missing") {
		t.Errorf("without a file: exit %d, %s", exit, stderr)
	}
	s.fails("--out", "cluster", "backup", "--out", filepath.Join(none, "x"))
	s.StopController()
	s.fails("error: ", "cluster", "backup", "--out", none)
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("what failed left %v, %v", list, err)
	}
}
