package record

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew")

// manifestEntry says what is to be thought of a file of testdata/corpus.
type manifestEntry struct {
	File     string `json:"file"`
	Accepted bool   `json:"accepted"`
	// Refused says why it is not accepted.
	Refused string `json:"refused,omitempty"`
	// Content is what every protobuf parser reads in an accepted file.
	Content *batchContent `json:"content,omitempty"`
	// Inner is a file with the decompressed bytes of a compressed batch, a
	// RecordBatch itself, and InnerContent what is read there.
	Inner        string        `json:"inner,omitempty"`
	InnerContent *batchContent `json:"inner_content,omitempty"`
}

const corpusDir = "testdata/corpus"

func readManifest(t testing.TB) []manifestEntry {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(corpusDir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m []manifestEntry
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func readCorpusFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(corpusDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// corpusCases are the committed files.
func corpusCases(t testing.TB) []corpusCase {
	t.Helper()
	var cs []corpusCase
	for _, e := range readManifest(t) {
		cs = append(cs, corpusCase{name: e.File, bytes: readCorpusFile(t, e.File)})
	}
	return cs
}

// TestCorpus holds the committed files against the validator, the generated
// code and Iterator. The tests of languages_test.go ask others about the same files.
func TestCorpus(t *testing.T) {
	if *update {
		writeCorpus(t)
	}
	for _, e := range readManifest(t) {
		t.Run(e.File, func(t *testing.T) {
			b := readCorpusFile(t, e.File)
			checkVerdict(t, b, 5)
			var v Validator
			sum, err := v.Validate(Pieces{b}, Limits{})
			var invalid *InvalidBatchError
			if errors.As(err, &invalid) {
				if e.Accepted || invalid.Kind.String() != e.Refused {
					t.Fatalf("refused: %v; expected accepted=%t %s", err, e.Accepted, e.Refused)
				}
				return
			}
			if !e.Accepted {
				t.Fatalf("accepted; expected %s", e.Refused)
			}
			checkContent(t, b, e.Content)
			if sum.Compression != None {
				checkContent(t, readCorpusFile(t, e.Inner), e.InnerContent)
			}
		})
	}
}

// TestCorpusIsComplete: the committed files are those that buildCorpus makes,
// and nothing else lies beside them. Their bytes are not compared, for another
// version of a compressor may write others.
func TestCorpusIsComplete(t *testing.T) {
	listed := map[string]bool{"manifest.json": true}
	for _, e := range readManifest(t) {
		listed[e.File] = true
		if e.Inner != "" {
			listed[e.Inner] = true
		}
	}
	for _, c := range buildCorpus(t) {
		if !listed[c.name+".bin"] {
			t.Errorf("%s is missing: run the tests of this package with -update", c.name)
		}
	}
	files, err := os.ReadDir(corpusDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !listed[f.Name()] {
			t.Errorf("%s is in no manifest", f.Name())
		}
	}
}

func checkContent(t *testing.T, b []byte, want *batchContent) {
	t.Helper()
	got, err := generatedContent(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func writeCorpus(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(corpusDir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(corpusDir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(corpusDir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var m []manifestEntry
	for _, c := range buildCorpus(t) {
		e := manifestEntry{File: c.name + ".bin", Accepted: c.kind == 0}
		write(e.File, c.bytes)
		if c.kind != 0 {
			e.Refused = c.kind.String()
			m = append(m, e)
			continue
		}
		var err error
		if e.Content, err = generatedContent(c.bytes); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if e.Content.Compression != 0 {
			packed, _ := hex.DecodeString(e.Content.Compressed)
			inner, err := Decompress(nil, packed, Compression(e.Content.Compression), MaxDecompressedBytes)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			e.Inner = c.name + ".inner.bin"
			write(e.Inner, inner)
			if e.InnerContent, err = generatedContent(inner); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		m = append(m, e)
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	write("manifest.json", append(b, '\n'))
}
