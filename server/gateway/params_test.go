package gateway_test

import (
	"encoding/json"
	"slices"
	"testing"
)

// detail is what is read of an error's details.
type detail struct {
	Type   string `json:"@type"`
	Reason string
	Field  struct{ Field string }
}

func (p problem) details(t *testing.T) (all []detail) {
	t.Helper()
	for _, raw := range p.Details {
		var d detail
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// What a request says twice must be the same, and what would not be heard is
// refused: otherwise a client would think that it was carried out.
func TestWhatWouldNotBeHeardIsRefused(t *testing.T) {
	s := &services{}
	url := start(t, s, nil)
	const records, read, trim = "/v1/topics/t/records", "/v1/topics/t/partitions/1/records", "/v1/topics/t/partitions/1/deleteRecords"
	for _, c := range []struct {
		name, method, path, body string
		reason, field            string
	}{
		{"path is not UTF-8", "POST", "/v1/topics/%ff/records", `{}`, "INVALID_FIELD", "topic"},
		{"path is not UTF-8, read", "GET", "/v1/topics/a%c3%28/partitions/0/records", "", "INVALID_FIELD", "topic"},
		{"partition is not UTF-8", "GET", "/v1/topics/t/partitions/%ff/records", "", "INVALID_FIELD", "partition"},
		{"query is not UTF-8", "GET", "/v1/topics?prefix=%ff", "", "INVALID_FIELD", "prefix"},
		{"partition is octal", "GET", "/v1/topics/t/partitions/010/records", "", "MALFORMED_REQUEST", "partition"},
		{"partition is hexadecimal", "GET", "/v1/topics/t/partitions/0x1/records", "", "MALFORMED_REQUEST", "partition"},
		{"partition is negative", "GET", "/v1/topics/t/partitions/-1/records", "", "MALFORMED_REQUEST", "partition"},
		{"other topic in the body", "POST", records, `{"topic":"u"}`, "INVALID_FIELD", "topic"},
		{"empty topic in the body", "POST", records, `{"topic":""}`, "INVALID_FIELD", "topic"},
		{"other topic with an escape", "POST", records, `{"\u0074opic":"u"}`, "INVALID_FIELD", "topic"},
		{"other partition in the body", "POST", trim, `{"partition":2}`, "INVALID_FIELD", "partition"},
		{"partition 0 in the body", "POST", trim, `{"partition":0}`, "INVALID_FIELD", "partition"},
		{"other partition as text", "POST", trim, `{"partition":"2"}`, "INVALID_FIELD", "partition"},
		{"other topic in the query", "GET", read + "?topic=u", "", "INVALID_FIELD", "topic"},
		{"one other of two topics in the query", "GET", read + "?topic=t&topic=u", "", "INVALID_FIELD", "topic"},
		{"other partition in the query", "GET", read + "?partition=2", "", "INVALID_FIELD", "partition"},
		{"other topic in the query of a post", "POST", records + "?topic=u", `{}`, "INVALID_FIELD", "topic"},
		{"field in the query of a post", "POST", records + "?partition=3", `{}`, "MALFORMED_REQUEST", "partition"},
		{"broker is no number", "POST", "/v1/cluster/brokers/x/drain", `{}`, "MALFORMED_REQUEST", "broker_id"},
		{"broker is too large a number", "DELETE", "/v1/cluster/brokers/2147483648", "", "MALFORMED_REQUEST", "broker_id"},
		{"controller is negative", "DELETE", "/v1/cluster/controllers/-1", "", "MALFORMED_REQUEST", "controller_id"},
		{"other broker in the body", "POST", "/v1/cluster/brokers/0/drain", `{"broker_id":7}`, "INVALID_FIELD", "broker_id"},
		{"other broker in the body, as JSON calls it", "POST", "/v1/cluster/brokers/0/drain", `{"brokerId":7}`, "INVALID_FIELD", "broker_id"},
		{"other broker in the query, as JSON calls it", "DELETE", "/v1/cluster/brokers/0?brokerId=7", "", "INVALID_FIELD", "broker_id"},
		{"body of a delete", "DELETE", "/v1/topics/t", `{"now":true}`, "MALFORMED_REQUEST", ""},
		{"query that is none", "GET", "/v1/topics?prefix=%zz", "", "MALFORMED_REQUEST", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := do(t, c.method, url+c.path, c.body)
			p := a.problem(t)
			if a.status != 400 || p.Status != "INVALID_ARGUMENT" || p.Reason != c.reason {
				t.Errorf("got %d %s", a.status, a.body)
			}
			if !slices.ContainsFunc(p.details(t), func(d detail) bool { return d.Field.Field == c.field }) {
				t.Errorf("no detail names %q: %s", c.field, a.body)
			}
		})
	}
	if s.appended.Load() != nil || s.read.Load() != nil {
		t.Error("a service was called")
	}
}

func TestWhatIsSaidTwiceAlikeIsTaken(t *testing.T) {
	url := start(t, &services{}, nil)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/topics/t/records", `{"topic":"t","partition":3}`, 200},
		{"POST", "/v1/topics/t/records", `{"topic":null}`, 200},
		{"POST", "/v1/topics/t/records?topic=t", `{}`, 200},
		{"POST", "/v1/topics/%74/records", `{"topic":"t"}`, 200},
		{"GET", "/v1/topics/t/partitions/1/records?partition=1&topic=t", "", 200},
		{"GET", "/v1/topics/t/partitions/1/records", "{}", 200},
		{"POST", "/v1/topics/t/partitions/1/deleteRecords", `{"partition":1.0}`, 501}, // the service has none
		{"POST", "/v1/topics/t/partitions/1/deleteRecords", `{"partition":"1"}`, 501},
	} {
		if a := do(t, c.method, url+c.path, c.body); a.status != c.status {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, a.status, a.body)
		}
	}
}

// A value that a field does not take is said with the field's name, as a client
// wrote it, also where the name is not one of a field.
func TestABadValueInTheQueryIsNamed(t *testing.T) {
	s := &services{}
	url := start(t, s, nil)
	const read = "/v1/topics/t/partitions/0/records?"
	for query, field := range map[string]string{
		read + "offset=abc":                             "offset",
		read + "offset=9223372036854775808":             "offset",
		read + "offset=":                                "offset",
		read + "follow=true&offset=abc":                 "offset",
		read + "max_records=-1":                         "max_records",
		read + "maxRecords=-1":                          "maxRecords",
		read + "follow=perhaps":                         "follow",
		read + "form=FANCY":                             "form",
		read + "time=yesterday":                         "time",
		read + "ofset=3":                                "ofset",
		read + "rack.a=3":                               "rack.a",
		read + "offset=1&offset=2":                      "offset",
		read + "latest=true&offset=1":                   "offset",
		"/v1/topics?page_size=many":                     "page_size",
		"/v1/topics/t/offsets?latest=true&partitions=x": "partitions",
	} {
		a := do(t, "GET", url+query, "")
		p := a.problem(t)
		if a.status != 400 || p.Status != "INVALID_ARGUMENT" || p.Reason != "MALFORMED_REQUEST" {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
		if !slices.ContainsFunc(p.details(t), func(d detail) bool { return d.Field.Field == field }) {
			t.Errorf("%s: no detail names %q: %s", query, field, a.body)
		}
	}
	// What cannot be told apart is refused all the same.
	if a := do(t, "GET", url+read+"max_records=1&maxRecords=2", ""); a.status != 400 || a.problem(t).Reason != "MALFORMED_REQUEST" {
		t.Errorf("one field by two names: %d %s", a.status, a.body)
	}
	if s.read.Load() != nil {
		t.Error("a service was called")
	}
}

// What the gateway itself refuses has details as what a service refuses.
func TestRequestsThatCannotBeReadHaveDetails(t *testing.T) {
	url := start(t, &services{}, nil)
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/topics/t/records", `{`},
		{"POST", "/v1/topics/t/records", `[]`},
		{"POST", "/v1/topics/t/records", `{"recrods":[]}`},
		{"POST", "/v1/topics/t/records", `{"topic":"t","topic":"t"}`},
		{"POST", "/v1/topics/t/records", "{\"records\":[{\"text\":\"\xff\"}]}"},
		{"GET", "/v1/topics/t/partitions/0/records?ofset=3", ""},
		{"GET", "/v1/topics/t/partitions/x/records", ""},
		{"GET", "/v1/topics/t/partitions/0/records?offset=abc", ""},
	} {
		a := do(t, c.method, url+c.path, c.body)
		p := a.problem(t)
		if a.status != 400 || p.Reason != "MALFORMED_REQUEST" {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
		if !slices.ContainsFunc(p.details(t), func(d detail) bool { return d.Reason == "MALFORMED_REQUEST" }) {
			t.Errorf("%s %s: no detail has the reason: %s", c.method, c.path, a.body)
		}
	}
	a := do(t, "GET", url+"/v1/cluster", "") // gRPC's own, without details
	if p := a.problem(t); !slices.ContainsFunc(p.details(t), func(d detail) bool { return d.Reason == p.Reason }) {
		t.Errorf("no detail has the reason: %s", a.body)
	}
}
