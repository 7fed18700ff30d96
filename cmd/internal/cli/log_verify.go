package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// segmentView is what verify found in a segment, as JSON and YAML show it.
type segmentView struct {
	File       string `json:"file"`
	TopicID    string `json:"topic_id"`
	Partition  uint32 `json:"partition"`
	BaseOffset int64  `json:"base_offset"`
	EndOffset  int64  `json:"end_offset"`
	Batches    int64  `json:"batches"`
	Records    int64  `json:"records"`
	Bytes      int64  `json:"bytes"`
	ValidBytes int64  `json:"valid_bytes"`
	Sealed     bool   `json:"sealed"`
	Problem    string `json:"problem"`
}

func (p *Program) logVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify PATH", Short: "Check every batch of segments and how segments follow one another",
		Long: `Check every batch of segments: lengths, header, CRC, offsets, leader epochs; the
index of sealed segments; and that segments follow one another. Exit code 1
says that something is wrong. Of a broker that was killed the last segment may
end in a batch that was being written: it was not acknowledged, and the broker
cuts it at its next start.`,
		Args: takes("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			paths, err := segmentPaths(args[0])
			if err != nil {
				return err
			}
			return p.verify(c, paths)
		},
	}
}

func (p *Program) verify(c *cobra.Command, paths []string) error {
	t := &table{header: []string{"FILE", "BASE", "END", "BATCHES", "RECORDS", "BYTES", "SEALED", "STATE"}}
	views := []segmentView{}
	bad := 0
	for i, path := range paths {
		v := verifySegment(path, i+1 < len(paths) && filepath.Dir(paths[i+1]) == filepath.Dir(path))
		if i > 0 && v.Problem == "" && filepath.Dir(paths[i-1]) == filepath.Dir(path) {
			// Of a segment that is damaged itself the end is not known.
			if before := views[i-1]; before.ValidBytes > 0 && before.ValidBytes == before.Bytes && before.EndOffset != v.BaseOffset {
				v.Problem = fmt.Sprintf("the segment before ends at offset %d", before.EndOffset)
			}
		}
		state := "good"
		if v.Problem != "" {
			bad++
			state = "BAD: " + v.Problem
		}
		views = append(views, v)
		t.add(v.File, v.BaseOffset, v.EndOffset, v.Batches, v.Records, v.Bytes, v.Sealed, state)
	}
	if err := p.show(c, views, t); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("not good: %d of %s", bad, counted(len(paths), "segment", "segments"))
	}
	return nil
}

// verifySegment checks one segment; followed says that another one comes after
// it, so that it must be sealed.
func verifySegment(path string, followed bool) segmentView {
	v := segmentView{File: path}
	found, err := segment.Walk(vfs.OS(), path, nil)
	if err != nil {
		v.Problem = err.Error()
		return v
	}
	info := &found.Info
	v.TopicID, v.Partition, v.BaseOffset = hex.EncodeToString(info.TopicID[:]), uint32(info.Partition), int64(info.BaseOffset)
	v.EndOffset, v.Batches, v.Records = int64(found.End.Offset), found.Batches, found.Records
	v.Bytes, v.ValidBytes = found.Size, found.Valid
	sealed, err := segment.CheckIndex(vfs.OS(), path, &found)
	v.Sealed = sealed
	base, _, named := segment.ParseName(filepath.Base(path))
	log := v.TopicID + "-" + strconv.FormatUint(uint64(v.Partition), 10)
	dir := filepath.Base(filepath.Dir(path))
	switch {
	case found.Bad != nil:
		v.Problem = fmt.Sprintf("%v; %d bytes behind it", found.Bad, found.Size-found.Valid)
	case err != nil:
		v.Problem = "index: " + err.Error()
	case named && base != info.BaseOffset:
		v.Problem = fmt.Sprintf("the file says that it begins at offset %d", info.BaseOffset)
	case isLogDir(dir) && dir != log:
		v.Problem = "the file says that it belongs to " + log
	case followed && !sealed:
		v.Problem = "has no index, though another segment follows"
	}
	return v
}

// isLogDir tells whether a directory is named like that of a partition.
func isLogDir(name string) bool {
	const idLen = 2 * len(record.TopicID{})
	if len(name) < idLen+2 || name[idLen] != '-' {
		return false
	}
	_, err := record.ParseTopicID(name[:idLen])
	return err == nil
}

// appendDumped appends a record as one line of JSON.
func appendDumped(dst []byte, it *record.Iterator) []byte {
	r := it.Record()
	dst = strconv.AppendInt(append(dst, `{"offset":`...), int64(it.Offset()), 10)
	dst = strconv.AppendInt(append(dst, `,"timestamp_ms":`...), it.TimestampMs(), 10)
	dst = appendBytesField(append(dst, ','), "key", r.Key)
	dst = appendBytesField(append(dst, ','), "value", r.Value)
	headers := make([]millstream.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = millstream.Header{Key: string(h.Key), Value: h.Value}
	}
	return append(appendHeaders(dst, headers), "}\n"...)
}

// copyBytes copies just n bytes.
func copyBytes(out io.Writer, in io.Reader, n int64) error {
	copied, err := io.CopyN(out, in, n)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the file became shorter than %d bytes while it was copied: %d", n, copied)
	}
	return err
}
