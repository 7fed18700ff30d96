package record

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// protoDir is where record.proto's import path begins.
const protoDir = "../../proto"

const protoFile = "millstream/v1/record.proto"

// acceptedFiles are the files of the corpus that every parser must accept, with
// what it must read there: the batches, and the insides of compressed ones.
func acceptedFiles(t *testing.T) (paths []string, want map[string]*batchContent) {
	t.Helper()
	want = map[string]*batchContent{}
	for _, e := range readManifest(t) {
		if !e.Accepted {
			continue
		}
		want[e.File] = e.Content
		if e.Inner != "" {
			want[e.Inner] = e.InnerContent
		}
	}
	for name := range want {
		paths = append(paths, filepath.Join(corpusDir, name))
	}
	return paths, want
}

func writeDescriptors(t *testing.T) string {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{
		File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(pb.File_millstream_v1_record_proto)},
	}
	b, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "record.binpb")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// needs skips the test unless the program is there and, asked with these
// arguments, says that its library is.
func needs(t *testing.T, program string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no %s here", program)
	}
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Skipf("%s %s: %v: %s", program, strings.Join(args, " "), err, firstLine(out))
	}
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}

// askDecoder runs a decoder on all accepted files and compares what it reads.
func askDecoder(t *testing.T, program string, args ...string) {
	t.Helper()
	paths, want := acceptedFiles(t)
	cmd := exec.CommandContext(t.Context(), program, append(args, paths...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v\n%.1000s", err, out)
	}
	for name, w := range want {
		var (
			c       batchContent
			failure struct{ Error string }
		)
		if err := json.Unmarshal(got[name], &failure); err != nil || failure.Error != "" {
			t.Errorf("%s is refused: %v %s", name, err, failure.Error)
			continue
		}
		if err := json.Unmarshal(got[name], &c); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(w, &c); diff != "" {
			t.Errorf("%s is read otherwise:\n%s", name, diff)
		}
	}
}

func TestPythonReadsWhatIsAccepted(t *testing.T) {
	needs(t, "python3", "-c", "import google.protobuf.message_factory as f; f.GetMessageClass")
	askDecoder(t, "python3", "testdata/decoders/decode.py", writeDescriptors(t))
}

func TestJavaScriptReadsWhatIsAccepted(t *testing.T) {
	for _, library := range []string{"protobufjs", "@bufbuild/protobuf"} {
		t.Run(library, func(t *testing.T) {
			needs(t, "node", "-e", "require('"+library+"')")
			askDecoder(t, "node", "testdata/decoders/decode.cjs", library, writeDescriptors(t), filepath.Join(protoDir, protoFile))
		})
	}
}

func TestJavaReadsWhatIsAccepted(t *testing.T) {
	needs(t, "java", "-version")
	home, err := os.UserHomeDir()
	if err != nil {
		t.Skip(err)
	}
	jars, err := filepath.Glob(filepath.Join(home, ".m2/repository/com/google/protobuf/protobuf-java/*/protobuf-java-*.jar"))
	if err != nil || len(jars) == 0 {
		t.Skip("no protobuf-java in the local Maven repository")
	}
	askDecoder(t, "java", "-cp", jars[len(jars)-1], "testdata/decoders/Decode.java", writeDescriptors(t))
}

// protoc is the parser of C++.
func TestCPlusPlusReadsWhatIsAccepted(t *testing.T) {
	needs(t, "protoc", "--version")
	paths, want := acceptedFiles(t)
	for _, path := range paths {
		var m pb.RecordBatch
		protocDecode(t, path, &m)
		b, err := proto.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := generatedContent(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[filepath.Base(path)], got); diff != "" {
			t.Errorf("%s is read otherwise:\n%s", path, diff)
		}
	}
}

// protocDecode fills m with what `protoc --decode` prints of a file. Fields
// that the schema does not define are left out.
func protocDecode(t *testing.T, path string, m proto.Message) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "protoc", "-I", protoDir, "--decode="+string(m.ProtoReflect().Descriptor().FullName()), protoFile)
	cmd.Stdin, cmd.Stderr = f, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("protoc refuses %s: %v: %s", path, err, stderr.String())
		return
	}
	if err := prototext.Unmarshal(withoutNumbered(out), m); err != nil {
		t.Errorf("%s: %v\n%s", path, err, out)
	}
}

// withoutNumbered drops the fields that protoc prints by number.
func withoutNumbered(text []byte) []byte {
	var (
		out  bytes.Buffer
		deep int // braces open inside a field that is dropped
	)
	for line := range bytes.Lines(text) {
		s := bytes.TrimSpace(line)
		numbered := len(s) > 0 && s[0] >= '0' && s[0] <= '9'
		opens, closes := bytes.HasSuffix(s, []byte("{")), bytes.Equal(s, []byte("}"))
		switch {
		case deep > 0 && opens, deep == 0 && numbered && opens:
			deep++
		case deep > 0 && closes:
			deep--
		case deep > 0 || numbered:
		default:
			out.Write(line)
		}
	}
	return out.Bytes()
}
