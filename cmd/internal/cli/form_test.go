package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
)

func fetched() *millstream.FetchedRecord {
	return &millstream.FetchedRecord{
		Record: millstream.Record{
			Key: []byte("k"), Value: []byte("v\t1"), Time: time.UnixMilli(1700000000123),
			Headers: []millstream.Header{{Key: "a", Value: []byte("1")}, {Key: "a"}, {Key: "b", Value: []byte{0xff}}},
		},
		Partition: 2, Offset: 7,
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ output, want string }{
		{"", "v\t1\n"},
		{"value", "v\t1\n"},
		{`%t %p %o %k %v %T %%\n`, "topic 2 7 k v\t1 1700000000123 %\n"},
		{`%h\t\\%k`, "a=1,a=,b=\xff\t\\k"},
		{`%v`, "v\t1"},
		{"json", `{"topic":"topic","partition":2,"offset":7,"timestamp_ms":1700000000123,"key":"k","value":"v\t1",` +
			`"headers":[{"key":"a","value":"1"},{"key":"a","value":null},{"key":"b","value_base64":"/w=="}]}` + "\n"},
	} {
		f, err := parseRecordForm(c.output, "topic")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(f.append(nil, fetched())); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.output, got, c.want)
		}
	}
}

// A null prints as nothing, and JSON tells it from empty.
func TestNulls(t *testing.T) {
	null := &millstream.FetchedRecord{Record: millstream.Record{Time: time.UnixMilli(0)}}
	empty := &millstream.FetchedRecord{Record: millstream.Record{Time: time.UnixMilli(0), Key: []byte{}, Value: []byte{}}}
	for output, want := range map[string][2]string{
		"value":   {"\n", "\n"},
		`[%k%v]`:  {"[]", "[]"},
		`%T%h\n`:  {"0\n", "0\n"},
		"json":    {`"key":null,"value":null,"headers":[]}`, `"key":"","value":"","headers":[]}`},
		`%o-%p\t`: {"0-0\t", "0-0\t"},
	} {
		f, err := parseRecordForm(output, "t")
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range []*millstream.FetchedRecord{null, empty} {
			if got := string(f.append(nil, r)); !strings.Contains(got, want[i]) {
				t.Errorf("%s: got %q, want %q", output, got, want[i])
			}
		}
	}
}

func TestFormatsThatAreNone(t *testing.T) {
	for _, output := range []string{"jsn", "table", "yaml", "%x", "%", `%v\`, `%v\r`, "%v%"} {
		if _, err := parseRecordForm(output, "t"); err == nil {
			t.Errorf("%q was taken", output)
		}
	}
}

// Whatever the bytes are, the line is one line of JSON that gives them back.
func FuzzJSONForm(f *testing.F) {
	f.Add([]byte("k"), []byte("v\x00\n\"\\<é>"))
	f.Add([]byte{0xff}, []byte{})
	form := jsonForm{topic: `"t"`}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		line := form.append(nil, &millstream.FetchedRecord{Record: millstream.Record{Key: key, Value: value}})
		if i := bytes.IndexByte(line, '\n'); i != len(line)-1 {
			t.Fatalf("not one line: %q", line)
		}
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		check := func(name string, want []byte) {
			if text, ok := got[name].(string); ok && text == string(want) {
				return
			}
			b, ok := got[name+"_base64"].(string)
			raw, err := base64.StdEncoding.DecodeString(b)
			if want == nil && got[name] == nil && !ok {
				return
			}
			if !ok || err != nil || !bytes.Equal(raw, want) {
				t.Errorf("%s of %q is not %q", name, line, want)
			}
		}
		check("key", key)
		check("value", value)
	})
}

func TestCountsAreSaidInTheRightNumber(t *testing.T) {
	for got, want := range map[string]string{
		strings.Join((&statusView{Brokers: 2, ActiveBrokers: 1, ImpairedBrokers: 1, Offline: 1, UnderMinInsync: 1, UnderReplicated: 1}).troubles(), ", "): "1 broker is not active, " +
			"1 broker has a disk that is slow, full or failing, 1 partition has no leader, 1 partition takes no writes of acks all, 1 partition has replicas that are not in sync",
		strings.Join((&statusView{Brokers: 2, Offline: 3}).troubles(), ", "): "2 brokers are not active, 3 partitions have no leader",
		refusedOf(1, 1):             "1 of 1 partition was refused",
		refusedOf(1, 4):             "1 of 4 partitions was refused",
		refusedOf(2, 4):             "2 of 4 partitions were refused",
		brokersNamed([]int32{4}):    "broker 4",
		brokersNamed([]int32{2, 4}): "brokers 2,4",
	} {
		if got != want {
			t.Errorf("it says %q, not %q", got, want)
		}
	}
}
