package api

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// The comment of each reason names the code that comes with it, and whether
// such an error is retryable. Clients are written by these comments, so what
// the services say is held against them.
func TestReasonsAreSaidAsTheirCommentsPromise(t *testing.T) {
	schema, err := os.ReadFile("../../proto/millstream/v1/errors.proto")
	if err != nil {
		t.Fatal(err)
	}
	comments := make(map[string]string)
	for _, m := range regexp.MustCompile(`((?:  // .*\n)+)  (ERROR_REASON_\w+) = `).FindAllStringSubmatch(string(schema), -1) {
		comments[m[2]] = strings.ReplaceAll(m[1], "\n  //", "")
	}
	for number, name := range pb.ErrorReason_name {
		if number != 0 && !regexp.MustCompile(`\([A-Z_]{5,}`).MatchString(comments[name]) {
			t.Errorf("the comment of %s names no code: %q", name, comments[name])
		}
	}
	check := func(what string, f *rpc.Fault) {
		t.Helper()
		comment := comments[f.Reason.String()]
		if code := codeName(f.Code); !regexp.MustCompile(`\b` + code + `\b`).MatchString(comment) {
			t.Errorf("%s: %s comes with %s, its comment says %q", what, f.Reason, code, comment)
		}
		if strings.Contains(comment, "retryable") != f.Retryable {
			t.Errorf("%s: %s has retryable %t, its comment says %q", what, f.Reason, f.Retryable, comment)
		}
	}
	for what, c := range samples() {
		if f := FaultOf(c.err); f != nil {
			check(what, f)
		}
	}
	for what, f := range map[string]*rpc.Fault{
		"preceding failed":       precedingFailed(),
		"not fresh":              notFresh(1),
		"nobody leads":           leaderFault(&pb.LeaderHint{BrokerId: -1}, "x"),
		"somebody leads":         leaderFault(&pb.LeaderHint{BrokerId: 1}, "x"),
		"too many subscriptions": tooManySubscriptions(1, 2),
		"disk full":              diskFull(),
		"no controller":          controllerUnavailable(),
		"stopping":               rpc.ShuttingDownFault(),
		"unforeseen":             rpc.InternalFault(),
		"not decodable":          rpc.MalformedFault(nil),
	} {
		check(what, f)
	}
}

// codeName is the name of a code as google.rpc.Code has it: OUT_OF_RANGE.
func codeName(c codes.Code) string {
	return strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(c.String(), "${1}_$2"))
}
