package flights

import (
	"strings"
	"testing"
)

const produced = `{"origin":"A","n":1}
{"origin":"B","n":2}
{"origin":"A","n":3}
`

func good() []Record {
	return []Record{
		{Partition: 0, Offset: 0, Key: "A", Value: `{"origin":"A","n":1}`},
		{Partition: 0, Offset: 1, Key: "A", Value: `{"origin":"A","n":3}`},
		{Partition: 1, Offset: 0, Key: "B", Value: `{"origin":"B","n":2}`},
	}
}

func TestCompareAcceptsWhatWentIn(t *testing.T) {
	keys, err := Compare([]byte(produced), good())
	if err != nil || keys != 2 {
		t.Fatalf("got %d keys, %v", keys, err)
	}
}

func TestCompareFindsWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(r []Record) []Record
		want   string
	}{
		{"a record is missing", func(r []Record) []Record { return r[:2] }, "key B"},
		{"a record came twice", func(r []Record) []Record {
			return append(r, Record{Partition: 1, Offset: 1, Key: "B", Value: r[2].Value})
		}, "key B"},
		{"two of a key changed places", func(r []Record) []Record {
			r[0].Value, r[1].Value = r[1].Value, r[0].Value
			return r
		}, "key A"},
		{"a key is in two partitions", func(r []Record) []Record {
			r[1].Partition, r[1].Offset = 1, 0
			return r
		}, "key A is in partitions"},
		{"an offset is skipped", func(r []Record) []Record {
			r[1].Offset = 5
			return r
		}, "offset 5 where 1 was due"},
		{"a key nobody produced", func(r []Record) []Record {
			return append(r, Record{Partition: 2, Key: "C"})
		}, "2 keys went in, 3 came out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compare([]byte(produced), c.damage(good()))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
