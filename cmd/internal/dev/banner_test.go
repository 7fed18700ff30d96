package dev

import (
	"strings"
	"testing"
)

func TestBannerSaysWhatIsLost(t *testing.T) {
	b := Banner{
		Version: "v1", GRPCAddr: "127.0.0.1:9650", HTTPAddr: "127.0.0.1:9651", DefaultAddr: "127.0.0.1:9650",
		DataDir: "/tmp/x", Temporary: true,
	}
	text := b.String()
	for _, want := range []string{
		"all data is lost at exit", "--data-dir",
		"\n  millstream topic create demo", "| millstream produce demo\n", "\n  millstream consume demo",
		"grpcurl -plaintext", " 127.0.0.1:9650 millstream.v1.BrokerService/Append", "curl -s http://127.0.0.1:9651/v1/topics/demo/",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestBannerFitsTheServer(t *testing.T) {
	b := Banner{GRPCAddr: "0.0.0.0:7000", HTTPAddr: "[::]:7001", DefaultAddr: "127.0.0.1:9650", DataDir: "d", Topic: "orders"}
	text := b.String()
	for _, want := range []string{"| millstream --addr 127.0.0.1:7000 produce orders", "http://127.0.0.1:7001/v1/topics/orders/"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, not := range []string{"lost", "topic create"} {
		if strings.Contains(text, not) {
			t.Errorf("%q in\n%s", not, text)
		}
	}
}

func TestBannerSpeaksTLS(t *testing.T) {
	b := Banner{GRPCAddr: "127.0.0.1:9650", HTTPAddr: "127.0.0.1:9651", DefaultAddr: "127.0.0.1:9650", TLS: true, DataDir: "d", Topic: "orders"}
	text := b.String()
	for _, want := range []string{"| millstream --tls-ca ca.crt produce orders", "HTTP  https://127.0.0.1:9651", "curl -s --cacert ca.crt https://127.0.0.1:9651/v1/", "grpcurl -cacert ca.crt"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "http://") {
		t.Errorf("it is not said with TLS\n%s", text)
	}
}

func TestTopicSpecs(t *testing.T) {
	for s, want := range map[string]TopicSpec{"a": {"a", 1}, "a:3": {"a", 3}, "a.b-c_d:10000": {"a.b-c_d", 10000}} {
		if got, err := ParseTopic(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ":3", "a:", "a:0", "a:-1", "a:x", "a:10001", "..", "__a", "a b", "a:1:2"} {
		if _, err := ParseTopic(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}
