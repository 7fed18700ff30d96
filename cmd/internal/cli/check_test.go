package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// writeHistory writes three appends that are acknowledged and read to the end.
func writeHistory(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	w, err := history.Create(history.Options{Dir: dir, Name: "client", Role: history.RoleClient})
	if err != nil {
		t.Fatal(err)
	}
	var frame []history.Batch
	events := []history.Event{}
	for op := range int64(3) {
		c := history.Content{N: 1, Digest: history.Digest(0xa0 + op)}
		events = append(events,
			history.Event{Kind: history.AppendInvoke, Op: uint64(op), Append: &history.Append{Content: c, Session: 1, Acks: history.AcksAll}},
			history.Event{Kind: history.AppendOK, Op: uint64(op), Ack: &history.Ack{Scope: history.ScopeISR, Medium: history.MediumDisk, InSync: 1, Base: op, Epoch: 1}})
		frame = append(frame, history.Batch{Base: op, Epoch: 1, Content: c})
	}
	events = append(events,
		history.Event{Kind: history.ReadBegin, Read: &history.Read{UntilEnd: true, Drain: true}},
		history.Event{Kind: history.ReadOK, Batches: frame, Read: &history.Read{Next: 3, HighWatermark: 3}},
		history.Event{Kind: history.ReadEnd, Read: &history.Read{Next: 3, Finished: true}})
	for _, e := range events {
		e.Topic = "t"
		if err := w.Record(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, "client.000000.ndjson")
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	return lines[len(lines)-1]
}

func TestCheckOfAGoodHistory(t *testing.T) {
	dir, _ := writeHistory(t)
	stdout, stderr, exit := run(t, nil, "check", dir)
	if exit != 0 || stderr != "" || lastLine(stdout) != "16 passed, 0 failed" || !strings.Contains(stdout, "none  R17") {
		t.Errorf("exit %d\n%s%s", exit, stdout, stderr)
	}
	stdout, _, exit = run(t, nil, "check", dir, "--require", "R4,R17")
	if exit != 1 || lastLine(stdout) != "16 passed, 1 failed" || !strings.Contains(stdout, "FAIL  R17") {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
}

// Whatever is doctored, the rule is named, and the lines that show it.
func TestCheckOfDoctoredHistories(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"a batch of the last read is gone", `{"base":1,"epoch":1,"n":1,"digest":"00000000000000a1"},`, "", "FAIL  R4"},
		{"a digest is another", `{"base":1,"epoch":1,"n":1,"digest":"00000000000000a1"}`, `{"base":1,"epoch":1,"n":1,"digest":"00000000000000b1"}`, "FAIL  R1"},
		{"two offsets change places", `{"base":0,"epoch":1,"n":1,"digest":"00000000000000a0"},{"base":1,`, `{"base":1,"epoch":1,"n":1,"digest":"00000000000000a0"},{"base":0,`, "FAIL  R8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, file := writeHistory(t)
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), c.from) {
				t.Fatalf("%v, or there is no %s in\n%s", err, c.from, text)
			}
			writeFile(t, file, strings.Replace(string(text), c.from, c.to, 1))
			stdout, stderr, exit := run(t, nil, "check", dir)
			if exit != 1 || stderr != "" || !strings.Contains(stdout, c.want) || !strings.Contains(stdout, "client.000000.ndjson:9") {
				t.Errorf("exit %d\n%s%s", exit, stdout, stderr)
			}
			if last := lastLine(stdout); strings.HasSuffix(last, " 0 failed") || !strings.HasSuffix(last, " failed") {
				t.Errorf("the last line is %q", last)
			}
		})
	}
}

func TestCheckOfNoHistory(t *testing.T) {
	broken, file := writeHistory(t)
	writeFile(t, file, "rubbish\n")
	for _, dir := range []string{t.TempDir(), "/no/where", broken} {
		stdout, stderr, exit := run(t, nil, "check", dir)
		if exit != 1 || stdout != "0 passed, 1 failed\n" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d\n%s%s", dir, exit, stdout, stderr)
		}
	}
}
