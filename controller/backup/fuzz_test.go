package backup_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/backup"
)

// sealed returns a file that ends as a whole one with this beginning would: so
// what is read is the beginning, and not only its checksum.
func sealed(t testing.TB, beginning []byte) []byte {
	t.Helper()
	entries := uint64(0)
	for rest := beginning; len(rest) > 0; {
		field, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break
		}
		if field == 2 {
			entries++
		}
		rest = rest[n:]
	}
	sum := sha256.Sum256(beginning)
	trailer, err := proto.Marshal(&controllerv1.BackupTrailer{Sha256: sum[:], EntryCount: entries})
	if err != nil {
		t.Fatal(err)
	}
	return protowire.AppendBytes(protowire.AppendTag(bytes.Clone(beginning), 3, protowire.BytesType), trailer)
}

// Whatever is given for a backup is restored, or refused by a typed error.
func FuzzRead(f *testing.F) {
	file := write(f, full(f))
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add([]byte{})
	beginning := 0 // all but the trailer
	for rest := file; len(rest) > 0; {
		field, _, n := protowire.ConsumeField(rest)
		if field == 3 {
			break
		}
		beginning += n
		rest = rest[n:]
	}
	f.Add(file[:beginning])
	if !bytes.Equal(sealed(f, file[:beginning]), file) {
		f.Fatal("a file is not sealed as it was written")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range [][]byte{data, sealed(t, data)} {
			b, err := backup.Read(bytes.NewReader(file))
			_, format := errors.AsType[*backup.FormatError](err)
			_, version := errors.AsType[*backup.VersionError](err)
			switch {
			case err == nil:
			case format, version, errors.Is(err, backup.ErrTorn):
				continue
			default:
				t.Fatalf("read: %v", err)
			}
			first, err := b.Restore(b.Generation + 1)
			if err != nil {
				continue // what it says is for people: an entry of a later version
			}
			again, err := b.Restore(b.Generation + 1)
			if err != nil || again.Identity != first.Identity {
				t.Fatalf("restored again it is another: %v", err)
			}
		}
	})
}
