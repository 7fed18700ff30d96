package scale

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// throughput appends and reads the same number of records with each number of
// partitions, in alternation, each on a server of its own.
//
// They are spread in two ways: batch by batch, as the client does with records
// without a key, so that nothing differs but the number of partitions; and
// record by record, as many keys do, so that batches are small where partitions
// are many.
func (t *trial) throughput(ctx context.Context) error {
	for round := range t.Rounds {
		for _, n := range t.partitions {
			for _, spread := range []string{"batch", "record"} {
				if n == 1 && spread == "record" {
					continue // the same
				}
				head := measurement{{"part", "throughput"}, {"partitions", int64(n)}, {"spread", spread}, {"round", round}}
				dir := filepath.Join(t.dir, fmt.Sprintf("%d-%.0f-%s", round, n, spread))
				m, err := t.flow(ctx, dir, int64(n), spread)
				if err := errors.Join(err, empty(dir)); err != nil {
					return err
				}
				if err := t.add(append(head, m...)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// empty gives back the room of a directory's files, and leaves the files.
//
// WHY not remove them: ext4 passes over the inodes of files that were removed
// in the last minutes, one by one, so that thousands of removed files make those
// that the next server creates slow.
func empty(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return os.Truncate(path, 0)
	})
}

// flow appends and reads records with one number of partitions. The files are
// made before anything is counted.
func (t *trial) flow(ctx context.Context, dir string, partitions int64, spread string) (measurement, error) {
	const topic, cpu, batches = "throughput", "process_cpu_seconds_total", "millstream_log_appended_batches_total"
	s, err := t.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer s.kill()
	begun := time.Now()
	if _, err := s.create(ctx, topic, int(partitions), "memory"); err != nil {
		return nil, err
	}
	created := time.Now()
	to := func(i int64) uint32 { return uint32(i % partitions) }
	if spread == "batch" {
		to = nil
	}
	var at [3]reading
	for i, do := range []func() error{
		func() error { return s.touch(ctx, topic) },
		func() error { return s.produce(ctx, topic, t.Records, to) },
		func() error { return s.consume(ctx, topic, t.Records+partitions) },
	} {
		if err := do(); err != nil {
			return nil, err
		}
		if at[i], err = s.read(ctx, cpu, batches); err != nil {
			return nil, err
		}
	}
	ends, err := s.Topics().ListOffsets(ctx, &pb.ListOffsetsRequest{Topic: topic, At: &pb.ListOffsetsRequest_Latest{Latest: true}})
	if err != nil {
		return nil, err
	}
	used := 0.0
	for _, e := range ends.GetOffsets() {
		if e.GetOffset() > 1 {
			used++
		}
	}
	records, gb := float64(t.Records), float64(t.Records)*recordBytes/1e9
	return measurement{
		{"create_seconds", created.Sub(begun).Seconds()}, {"touch_seconds", at[0].at.Sub(created).Seconds()},
		{"produce_records_per_second", records / at[1].at.Sub(at[0].at).Seconds()},
		{"produce_cpu_seconds_per_gb", (at[1].values[cpu] - at[0].values[cpu]) / gb},
		{"records_per_batch", records / (at[1].values[batches] - at[0].values[batches])},
		{"partitions_used", used},
		{"fetch_records_per_second", records / at[2].at.Sub(at[1].at).Seconds()},
		{"fetch_cpu_seconds_per_gb", (at[2].values[cpu] - at[1].values[cpu]) / gb},
	}, s.stop()
}
