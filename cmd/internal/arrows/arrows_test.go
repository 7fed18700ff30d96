// Package arrows checks that the packages of this repository import each other
// only downwards, as docs/architecture.md draws it. A new arrow needs a line
// in the table below and a decision record that says why.
package arrows

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/millstream-io/millstream/"

// rule says what the packages at or below a path may import of this
// repository, and what they may never import of others.
type rule struct {
	path  string
	may   []string // paths; each allows everything at or below it
	never []string // import paths of others; each forbids everything at or below it
	why   string
}

var outsideStorage = []string{
	"google.golang.org/grpc", "google.golang.org/genproto", "github.com/prometheus", "go.etcd.io",
	"google.golang.org/protobuf/proto", "google.golang.org/protobuf/types", "google.golang.org/protobuf/reflect",
}

var etcd = []string{"go.etcd.io"}

// outsideCheck keeps what judges apart from what is judged.
var outsideCheck = append([]string{"net", "os/exec"}, outsideStorage...)

// rules has the most specific path first: the first that fits decides.
var rules = []rule{
	{"storage/vfs", []string{"storage/vfs"}, outsideStorage, "the file system is the lowest of all"},
	{"storage/mmap", []string{"storage/vfs"}, outsideStorage, "a mapping knows files and bytes"},
	{"storage/checkpoint", []string{"storage/vfs"}, outsideStorage, "a checkpoint is a small file"},
	{"storage/record", nil, outsideStorage, "the format is pure: bytes in, bytes out"},
	{"storage/segment", []string{"storage/vfs", "storage/mmap", "storage/checkpoint", "storage/record"}, outsideStorage, "a segment is a file of batches"},
	{"storage/commitlog", []string{"storage/vfs", "storage/mmap", "storage/checkpoint", "storage/record", "storage/segment"}, outsideStorage, "a log is a row of segments"},
	{"storage/storagetest", []string{"storage"}, outsideStorage, "test support"},

	{"server/replica", []string{"storage/record"}, outsideStorage, "the replica is a pure step function"},
	{"server/topicconfig", nil, outsideStorage, "names and limits, shared by broker and controller"},
	{"server/partition", []string{"storage", "server/replica"}, outsideStorage, "a partition knows no transport"},
	{"server/rpc", []string{"gen"}, etcd, "a leaf: how things are said over gRPC"},
	{"server/telemetry", nil, etcd, "a leaf: logs and metrics"},
	{"server/metahash", nil, outsideStorage, "a leaf: what all metadata comes to, for both sides"},
	{"server/slowdisk", nil, outsideStorage, "a leaf: how a disk is judged by its delays, for both sides"},
	{"server/ports", nil, etcd, "a leaf: addresses that stay free"},
	{"server/pki", nil, outsideStorage, "a leaf: who a certificate is of"},
	{"server/tlsfile", []string{"server/pki"}, etcd, "TLS of certificates in files"},
	{"server/caller", []string{"gen", "server/pki", "server/rpc"}, etcd, "a leaf: who calls an internal service"},
	{"server/peers", []string{"gen", "server/metadata", "server/rpc"}, etcd, "connections to the other brokers"},
	{"server/quorum", []string{"gen", "server/rpc"}, etcd, "the controllers as one"},
	{"server/wire", []string{"gen", "storage/record"}, etcd, "messages as bytes"},
	{"server/metadata", []string{"gen", "server/metahash", "server/topicconfig", "server/rpc"}, etcd, "a mirror of what the controller streams"},
	{"server/follower", []string{"gen", "server/partition", "server/replica", "server/wire", "storage/record"}, etcd, "the follower's end of the streams between brokers"},
	{"server/pusher", []string{"gen", "server/caller", "server/partition", "server/replica", "server/rpc", "server/wire", "storage/record"}, etcd, "the leader's end of them"},
	{"server/broker", []string{"gen", "server/caller", "server/follower", "server/metadata", "server/partition", "server/pusher", "server/replica", "server/slowdisk", "server/topicconfig", "server/telemetry", "storage"}, etcd, "the registry of local partitions"},
	{"server/forward", []string{"gen", "server/rpc", "server/wire", "storage/record"}, etcd, "what is between the broker that is asked and the one that leads"},
	{"server/api", []string{"gen", "server/broker", "server/forward", "server/metadata", "server/partition", "server/replica", "server/rpc", "server/telemetry", "server/topicconfig", "server/wire", "storage"}, etcd, "the services"},
	{"server/gateway", []string{"gen", "server/rpc", "server/telemetry"}, etcd, "REST speaks to the services over gRPC"},
	{"server/config", []string{"gen", "server", "storage"}, etcd, "composes the options of the server's packages"},
	{"server/servertest", []string{"gen", "server", "storage", "controller/node", "controller/controllertest"}, nil, "test support"},

	{"controller/etcd", []string{"controller/pace", "controller/store", "server/telemetry"}, nil, "the only package that speaks to etcd"},
	{"controller/pace", []string{"server/slowdisk"}, outsideStorage, "pure: how a disk is in, who is to be active out"},
	{"controller/placement", nil, outsideStorage, "pure: a cluster in, a plan out"},
	{"controller/election", []string{"controller/placement"}, outsideStorage, "pure: choose, bump, fence"},
	{"controller", []string{"controller", "gen", "server/caller", "server/metahash", "server/pki", "server/ports", "server/rpc", "server/slowdisk", "server/telemetry", "server/topicconfig"}, etcd, "controller and broker meet only in proto"},

	{"clients/go", []string{"gen/go", "clients/go"}, []string{"go.etcd.io", "github.com/prometheus", "github.com/spf13", "github.com/grpc-ecosystem"}, "a client is light"},
	{"gen", []string{"gen"}, etcd, "generated from proto alone"},
	{"cmd/internal/history", nil, outsideCheck, "what was done and seen, as files"},
	{"cmd/internal/check", []string{"cmd/internal/history"}, outsideCheck, "pure: a history in, a report out"},
	{"cmd", []string{"cmd", "clients", "controller", "gen", "server", "storage"}, nil, "programs may use everything"},
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// under tells whether path is at or below parent.
func under(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

func ruleFor(path string) (rule, bool) {
	i := slices.IndexFunc(rules, func(r rule) bool { return under(path, r.path) })
	if i < 0 {
		return rule{}, false
	}
	return rules[i], true
}

// broken returns what is wrong with an import, or nothing.
func (r rule) broken(from, to string) string {
	if ours, ok := strings.CutPrefix(to, module); ok {
		if under(ours, r.path) && under(from, r.path) {
			return ""
		}
		if strings.HasSuffix(ours, "test") && !strings.HasSuffix(from, "test") {
			return "test support must not be imported by other code"
		}
		if !slices.ContainsFunc(r.may, func(p string) bool { return under(ours, p) }) {
			return "may import only " + strings.Join(r.may, ", ")
		}
		return ""
	}
	if slices.ContainsFunc(r.never, func(p string) bool { return under(to, p) }) {
		return "must never import it"
	}
	return ""
}

func TestImportsPointDownwards(t *testing.T) {
	packages := list(t)
	if len(packages) < 10 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, p := range packages {
		from := strings.TrimPrefix(p.ImportPath, module)
		r, ok := ruleFor(from)
		if !ok {
			t.Errorf("%s: no rule for this package; add one and a decision record", from)
			continue
		}
		for _, to := range p.Imports {
			if why := r.broken(from, to); why != "" {
				t.Errorf("%s → %s: %s %s (%s)", from, to, r.path, why, r.why)
			}
		}
	}
}

// The rules themselves must be able to fail.
func TestBrokenArrowsAreFound(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"storage/vfs", module + "storage/record"},
		{"storage/segment", "google.golang.org/grpc/status"},
		{"storage/commitlog", module + "gen/go/millstream/v1"},
		{"server/broker", "go.etcd.io/etcd/client/v3"},
		{"server/api", module + "controller/store"},
		{"controller/api", module + "server/broker"},
		{"controller/store", "go.etcd.io/etcd/client/v3"},
		{"clients/go", module + "storage/record"},
		{"server/broker", module + "server/servertest"},
		{"cmd/internal/check", module + "storage/record"},
	} {
		r, ok := ruleFor(c.from)
		if !ok || r.broken(c.from, c.to) == "" {
			t.Errorf("%s → %s should be forbidden", c.from, c.to)
		}
	}
}
