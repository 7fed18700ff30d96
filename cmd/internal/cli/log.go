package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

func (p *Program) logCommand() *cobra.Command {
	c := group("log", "Look into the files of a data directory", p.logDump(), p.logVerify())
	c.Long = `Look into the files of a data directory, without a server and for reading
only. PATH is a data directory, the directory of a partition
(topics/<topic id>-<partition>), or a segment file (.log).`
	return c
}

// segmentPaths returns the segment files at or below a path, in the order of
// partitions and offsets. The trash is left out, unless it is asked for.
func segmentPaths(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var found []string
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "trash" && name != path:
			return fs.SkipDir
		case !d.IsDir() && isSegment(d.Name()):
			found = append(found, name)
		}
		return nil
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s holds no segment files (<20 digits>%s)", path, segment.LogSuffix)
	}
	slices.SortStableFunc(found, func(a, b string) int {
		if d := strings.Compare(filepath.Dir(a), filepath.Dir(b)); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return found, err
}

func isSegment(name string) bool {
	_, suffix, ok := segment.ParseName(name)
	return ok && suffix == segment.LogSuffix
}

// dumpFlags are the flags of log dump.
type dumpFlags struct {
	records bool
	from    int64
	copyTo  string
}

func (p *Program) logDump() *cobra.Command {
	var f dumpFlags
	c := &cobra.Command{
		Use: "dump PATH", Short: "Print the batches or records of segments, or copy a segment",
		Long: `Print the batches of segments, or with --records their records (an object a
line). --copy writes one segment to a file, which
'protoc --decode millstream.v1.Segment' prints; - is standard output. Of a
segment that is damaged, or ends in a batch that was being written, what is
before that is written to FILE.partial (or standard output), and the exit code
is 1.`,
		Example: `  millstream log dump /var/lib/millstream
  millstream log dump topics/<id>-0/00000000000000000000.log --copy - |
    protoc --decode millstream.v1.Segment -I proto proto/millstream/v1/record.proto`,
		Args: takes("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			paths, err := segmentPaths(args[0])
			if err != nil {
				return err
			}
			if f.copyTo != "" {
				if len(paths) != 1 {
					return misuse(c, "--copy takes one segment, and %s holds %d: name one", args[0], len(paths))
				}
				return p.copySegment(paths[0], f.copyTo)
			}
			return p.dump(paths, f)
		},
	}
	c.Flags().BoolVar(&f.records, "records", false, "print records instead of batches")
	c.Flags().Int64Var(&f.from, "from", 0, "leave out what is before this `OFFSET`")
	c.Flags().StringVar(&f.copyTo, "copy", "", "write one segment to `FILE`")
	return c
}

// batchView is a batch as JSON and YAML show it.
type batchView struct {
	File           string `json:"file"`
	Position       int64  `json:"position"`
	BaseOffset     int64  `json:"base_offset"`
	EndOffset      int64  `json:"end_offset"`
	Records        uint32 `json:"records"`
	LeaderEpoch    int32  `json:"leader_epoch"`
	AppendTimeMs   int64  `json:"append_time_ms"`
	MaxTimestampMs int64  `json:"max_timestamp_ms"`
	CommittedEnd   int64  `json:"committed_end"`
	Compression    string `json:"compression"`
	Attributes     uint32 `json:"attributes"`
	CRC32C         uint32 `json:"crc32c"`
	Bytes          int    `json:"bytes"`
}

const dumpRow = "%-10s %-10s %-8s %-6s %-14s %-14s %-12s %-9s %-10s %s\n"

func (p *Program) dump(paths []string, f dumpFlags) error {
	out := bufio.NewWriterSize(p.Out, 64<<10)
	if !f.records && (p.output == "" || p.output == "table") {
		_, _ = fmt.Fprintf(out, dumpRow, "BASE", "END", "RECORDS", "EPOCH", "APPENDED-MS", "MAX-TIME-MS", "COMPRESSION", "BYTES", "POSITION", "FILE")
	}
	var errs []error
	for _, path := range paths {
		found, err := segment.Walk(vfs.OS(), path, func(e segment.Entry) error {
			switch {
			case int64(e.Header.End()) <= f.from:
				return nil
			case f.records:
				return p.dumpRecords(out, &e, f.from)
			default:
				return p.dumpBatch(out, path, &e)
			}
		})
		if err == nil && found.Bad != nil {
			err = found.Bad
		}
		errs = append(errs, err)
	}
	return errors.Join(append([]error{out.Flush()}, errs...)...)
}

func (p *Program) dumpBatch(out *bufio.Writer, path string, e *segment.Entry) error {
	h := &e.Header
	v := batchView{
		File: path, Position: e.Position, BaseOffset: int64(h.BaseOffset), EndOffset: int64(h.End()), Records: h.Records,
		LeaderEpoch: int32(h.LeaderEpoch), AppendTimeMs: h.AppendTimeMs, MaxTimestampMs: h.MaxTimestampMs,
		CommittedEnd: int64(h.CommittedEnd), Compression: h.Attributes.Compression().String(),
		Attributes: uint32(h.Attributes), CRC32C: h.CRC, Bytes: len(e.Bytes),
	}
	var b []byte
	var err error
	switch p.output {
	case "json":
		b, err = marshalJSON(v, "")
	case "yaml":
		b, err = yaml.Marshal([]batchView{v})
	default:
		text := func(n any) string { return fmt.Sprint(n) }
		b = fmt.Appendf(nil, dumpRow, text(v.BaseOffset), text(v.EndOffset), text(v.Records), text(v.LeaderEpoch), text(v.AppendTimeMs),
			text(v.MaxTimestampMs), v.Compression, text(v.Bytes), text(v.Position), path)
	}
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}

func (p *Program) dumpRecords(out *bufio.Writer, e *segment.Entry, from int64) error {
	h, batch, _, err := record.ParseLogBatch(e.Bytes)
	if err != nil {
		return err
	}
	var it record.Iterator
	var line []byte
	for it.ResetLogBatch(&h, batch); it.Next(); {
		if int64(it.Offset()) < from {
			continue
		}
		line = appendDumped(line[:0], &it)
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return it.Err()
}

// partialSuffix is added to the name of a copy that is not of a whole segment,
// so that nobody goes on with it unaware.
const partialSuffix = ".partial"

// copySegment writes the SegmentInfo and the valid batches of a segment. Of one
// that is damaged it writes what is before the damage, and fails.
func (p *Program) copySegment(path, to string) error {
	found, err := segment.Walk(vfs.OS(), path, nil)
	if err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer closeQuietly(in)
	if to == "-" {
		to, err = "standard output", copyBytes(p.Out, in, found.Valid)
	} else {
		if found.Bad != nil {
			to += partialSuffix
		}
		err = copyToFile(to, in, found.Valid)
	}
	if err != nil {
		return err
	}
	p.done("%s, %s, %d bytes copied to %s, up to offset %d", counted(found.Batches, "batch", "batches"), counted(found.Records, "record", "records"),
		found.Valid, to, found.End.Offset)
	if found.Bad != nil {
		return fmt.Errorf("%w; the %d bytes from there on are not in the copy", found.Bad, found.Size-found.Valid)
	}
	return nil
}

// copyToFile makes a new file of n bytes, or none.
func copyToFile(name string, in io.Reader, n int64) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &hintError{err, "name a file that is not there yet"}
	}
	if err != nil {
		return err
	}
	err = errors.Join(copyBytes(file, in, n), file.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
