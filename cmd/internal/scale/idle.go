package scale

import (
	"context"
	"fmt"
	"time"
)

// idle looks at what a server holds for partitions that nobody uses: before
// there are any, when they were made, when each was written once, read once,
// and after a restart.
func (t *trial) idle(ctx context.Context) error {
	const topic = "idle"
	s, err := t.start(ctx, t.dir)
	if err != nil {
		return err
	}
	defer func() { s.kill() }()
	for _, step := range []struct {
		after string
		do    func() error
	}{
		{"start", func() error { return nil }},
		{"making them", func() error { _, err := s.create(ctx, topic, t.Idle, "disk"); return err }},
		{"writing each", func() error { return s.touch(ctx, topic) }},
		{"reading each", func() error { return s.consume(ctx, topic, int64(t.Idle)) }},
		{"stop and start", func() error {
			err := s.stop()
			if err != nil {
				return err
			}
			next, err := t.start(ctx, t.dir)
			if err == nil {
				s = next
			}
			return err
		}},
	} {
		begun := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.after, err)
		}
		took := time.Since(begun)
		if err := rest(ctx, t.Settle); err != nil {
			return err
		}
		held, err := footprint(s.PID())
		if err != nil {
			return err
		}
		const goroutines, files, open = "go_goroutines", "millstream_broker_open_files", "millstream_broker_open_partitions"
		now, err := s.read(ctx, goroutines, files, open)
		if err != nil {
			return err
		}
		m := append(measurement{{"part", "idle"}, {"partitions", t.Idle}, {"after", step.after}, {"seconds", took.Seconds()}}, held...)
		if err := t.add(append(m, measurement{
			{"goroutines", now.values[goroutines]}, {"open_segments", now.values[files]}, {"open_partitions", now.values[open]},
		}...)); err != nil {
			return err
		}
	}
	return s.stop()
}
