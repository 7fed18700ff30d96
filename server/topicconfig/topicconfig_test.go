package topicconfig

import (
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	want := Config{
		RetentionMs: 604_800_000, RetentionBytes: -1,
		SegmentBytes: 268_435_456, SegmentMs: 604_800_000,
		Durability: DurabilityDisk, MinInsyncReplicas: 2,
		MaxBatchBytes: 1_048_576, MaxRecordBytes: 1_048_576,
		TimestampType: TimestampCreate, TimestampMaxAheadMs: 3_600_000,
		CleanupPolicy: CleanupDelete,
	}
	if got := Default(); got != want {
		t.Errorf("Default() = %+v, want %+v", got, want)
	}
	if got, err := Parse(nil); err != nil || got != want {
		t.Errorf("Parse(nil) = %+v, %v", got, err)
	}
}

func TestParseTakesEverySetting(t *testing.T) {
	set := map[string]string{
		"retention.ms": "-1", "retention.bytes": "1048576", "segment.bytes": "1073741824", "segment.ms": "60000",
		"durability": "memory", "min.insync.replicas": "3", "cleanup.policy": "delete",
		"max.batch.bytes": "3145728", "max.record.bytes": "100", "timestamp.type": "append", "timestamp.max.ahead.ms": "0",
	}
	if len(set) != len(Entries()) {
		t.Fatalf("the table has %d settings, this test %d", len(Entries()), len(set))
	}
	got, err := Parse(set)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		RetentionMs: Unlimited, RetentionBytes: 1 << 20, SegmentBytes: 1 << 30, SegmentMs: 60_000,
		Durability: DurabilityMemory, MinInsyncReplicas: 3, MaxBatchBytes: 3 << 20, MaxRecordBytes: 100,
		TimestampType: TimestampAppend,
	}
	if got != want {
		t.Errorf("Parse = %+v, want %+v", got, want)
	}
	if v := got.Values(); !maps.Equal(v, set) {
		t.Errorf("Values = %v, want %v", v, set)
	}
}

func TestParseRefusesAbsurdValuesByName(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{"retention.ms", "-2"}, {"retention.ms", "0"}, {"retention.ms", "9223372036854775807"},
		{"retention.ms", "9223372036854775808"}, {"retention.ms", ""}, {"retention.ms", "7d"},
		{"retention.ms", "+5"}, {"retention.ms", "007"}, {"retention.ms", " 5"}, {"retention.ms", "-0"},
		{"retention.bytes", "-2"}, {"retention.bytes", "0"},
		{"segment.bytes", "-1"}, {"segment.bytes", "0"}, {"segment.bytes", "1"}, {"segment.bytes", "1073741825"},
		{"segment.ms", "-1"}, {"segment.ms", "999"},
		{"durability", "DISK"}, {"durability", ""}, {"durability", "tape"},
		{"min.insync.replicas", "0"}, {"min.insync.replicas", "-1"}, {"min.insync.replicas", "16"},
		{"cleanup.policy", "compact"}, {"cleanup.policy", "delete,compact"},
		{"max.batch.bytes", "1023"}, {"max.batch.bytes", "3145729"}, {"max.batch.bytes", "-1"},
		{"max.record.bytes", "0"}, {"max.record.bytes", "1048577"},
		{"timestamp.type", "log"}, {"timestamp.max.ahead.ms", "-1"},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			_, err := Parse(map[string]string{c.name: c.value})
			e, ok := errors.AsType[*InvalidError](err)
			if !ok {
				t.Fatalf("Parse = %v, want an InvalidError", err)
			}
			if e.Name != c.name || e.Value != c.value || !strings.Contains(e.Error(), c.name) {
				t.Errorf("error is %+v: %v", e, e)
			}
		})
	}
}

func TestParseRefusesUnknownNames(t *testing.T) {
	_, err := Parse(map[string]string{"retention.mss": "1", "segment.bytes": "-5"})
	if e, ok := errors.AsType[*UnknownError](err); !ok || e.Name != "retention.mss" {
		t.Errorf("Parse = %v, want retention.mss to be unknown", err)
	}
	long := strings.Repeat("x", 10_000)
	_, err = Parse(map[string]string{long: "1"})
	if e, ok := errors.AsType[*UnknownError](err); !ok || len(e.Error()) > 200 {
		t.Errorf("a long name is echoed in full or not refused: %d bytes", len(err.Error()))
	}
	_, err = Parse(map[string]string{"retention.ms": long})
	if e, ok := errors.AsType[*InvalidError](err); !ok || len(e.Error()) > 300 {
		t.Errorf("a long value is echoed in full or not refused: %v", err)
	}
}

func TestChange(t *testing.T) {
	old := map[string]string{"retention.ms": "5000", "durability": "memory"}
	next, c, err := Change(old, map[string]string{"segment.ms": "2000"}, []string{"retention.ms", "segment.bytes"})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"durability": "memory", "segment.ms": "2000"}; !maps.Equal(next, want) {
		t.Errorf("next = %v, want %v", next, want)
	}
	if c.SegmentMs != 2000 || c.RetentionMs != Default().RetentionMs || c.Durability != DurabilityMemory {
		t.Errorf("in force: %+v", c)
	}
	if old["retention.ms"] != "5000" {
		t.Error("Change changed its argument")
	}
	if _, _, err = Change(old, nil, []string{"nope"}); err == nil {
		t.Error("an unknown name to reset is accepted")
	}
	if _, _, err = Change(old, map[string]string{"segment.ms": "2000"}, []string{"segment.ms"}); err == nil {
		t.Error("a name both set and reset is accepted")
	}
	if _, _, err = Change(nil, map[string]string{"segment.ms": "-7"}, nil); err == nil {
		t.Error("a bad value is accepted")
	}
}

func TestParseAndValuesAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := map[string]string{}
		for _, e := range Entries() {
			if e.Unit == "" {
				continue
			}
			v := rapid.Int64Range(-2, 1<<34).Draw(t, e.Name)
			if _, err := Parse(map[string]string{e.Name: strconv.FormatInt(v, 10)}); err == nil {
				set[e.Name] = strconv.FormatInt(v, 10)
			}
		}
		c, err := Parse(set)
		if err != nil {
			t.Fatalf("settings good one by one are bad together: %v", err)
		}
		again, err := Parse(c.Values())
		if err != nil || again != c {
			t.Fatalf("Parse(Values) = %+v, %v, want %+v", again, err, c)
		}
		for k, v := range set {
			if c.Values()[k] != v {
				t.Fatalf("%s = %s, want %s", k, c.Values()[k], v)
			}
		}
	})
}

func TestEffectiveMinInsync(t *testing.T) {
	for _, c := range []struct{ set, replicas, want int }{{2, 1, 1}, {2, 3, 2}, {3, 3, 3}, {5, 3, 3}, {1, 3, 1}} {
		if got := (Config{MinInsyncReplicas: c.set}).EffectiveMinInsync(c.replicas); got != c.want {
			t.Errorf("min %d of %d replicas: %d, want %d", c.set, c.replicas, got, c.want)
		}
	}
}

func TestEntriesAreComplete(t *testing.T) {
	for _, e := range Entries() {
		if e.Default == "" || e.Allowed == "" || !strings.HasSuffix(e.Meaning, ".") || !strings.HasSuffix(e.Symptom, ".") {
			t.Errorf("entry %q is not fully described: %+v", e.Name, e)
		}
	}
}

func TestValidateName(t *testing.T) {
	for _, good := range []string{"a", "A.b_c-9", "...", "0", "_x", strings.Repeat("a", 249), "__groups"} {
		if err := ValidateName(good); err != nil {
			t.Errorf("%q is refused: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", ".", "..", "-a", "a b", "a/b", "a\\b", "a\x00", "a\n", "é", "\xff", strings.Repeat("a", 250), strings.Repeat("a", 300), "../x",
	} {
		e, ok := errors.AsType[*NameError](ValidateName(bad))
		if !ok {
			t.Errorf("%q is accepted", bad)
			continue
		}
		if s := e.Error(); len(s) > 500 || strings.ContainsAny(s, "\x00\n") || !utf8.ValidString(s) {
			t.Errorf("the error for %q is not fit to be printed: %q", bad, s)
		}
	}
	if err := ValidateNewName("__groups"); err == nil {
		t.Error("a user may create __groups")
	}
	if err := ValidateNewName("_groups"); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("retention.ms", "5")
	f.Add("durability", "disk")
	f.Add("x", "\xff")
	f.Fuzz(func(t *testing.T, name, value string) {
		c, err := Parse(map[string]string{name: value})
		if err != nil {
			return
		}
		if got := c.Values()[name]; got != value {
			t.Errorf("%s = %q is accepted and becomes %q", name, value, got)
		}
	})
}
