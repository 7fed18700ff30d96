// Package flights has 20,000 real records, and says whether records that came
// out of a topic are those that went in. testdata/README.md names their source
// and licence.
package flights

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// NDJSON is the records: one JSON object a line, to be keyed by `origin`.
//
//go:embed testdata/flights-20k.ndjson
var NDJSON []byte

// Record is a record as `millstream consume -o json` prints it.
type Record struct {
	Partition uint32 `json:"partition"`
	Offset    int64  `json:"offset"`
	Key       string `json:"key"`
	Value     string `json:"value"`
}

// Compare returns the number of keys, or what differs between the lines that
// were produced and the records that were consumed.
func Compare(produced []byte, records []Record) (keys int, err error) {
	want, err := byKey(produced)
	if err != nil {
		return 0, err
	}
	got := map[string][]string{}
	home := map[string]uint32{}
	next := map[uint32]int64{}
	for _, r := range records {
		if p, seen := home[r.Key]; seen && p != r.Partition {
			return 0, fmt.Errorf("key %s is in partitions %d and %d", r.Key, p, r.Partition)
		}
		if r.Offset != next[r.Partition] {
			return 0, fmt.Errorf("partition %d: offset %d where %d was due", r.Partition, r.Offset, next[r.Partition])
		}
		home[r.Key], next[r.Partition] = r.Partition, r.Offset+1
		got[r.Key] = append(got[r.Key], r.Value)
	}
	for key, values := range want {
		if !slices.Equal(values, got[key]) {
			return 0, fmt.Errorf("key %s: %d records went in, %d came out, or in another order", key, len(values), len(got[key]))
		}
	}
	if len(got) != len(want) {
		return 0, fmt.Errorf("%d keys went in, %d came out", len(want), len(got))
	}
	return len(want), nil
}

// byKey returns the lines of each origin in order.
func byKey(lines []byte) (map[string][]string, error) {
	out := map[string][]string{}
	for line := range strings.Lines(string(lines)) {
		line = strings.TrimSuffix(line, "\n")
		var f struct {
			Origin string `json:"origin"`
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			return nil, err
		}
		out[f.Origin] = append(out[f.Origin], line)
	}
	return out, nil
}
