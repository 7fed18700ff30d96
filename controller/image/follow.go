package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/millstream-io/millstream/controller/store"
)

// The pause before the store is tried again: there may be no leader yet.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 500 * time.Millisecond
)

// pageEntries bounds one read of a load.
const pageEntries = 2_000

// damageError says that the store holds what is not to be understood: there is
// no use in trying again.
type damageError struct{ cause error }

func (e *damageError) Error() string { return "the metadata store is damaged: " + e.cause.Error() }
func (e *damageError) Unwrap() error { return e.cause }

// Run follows the store until ctx ends, and returns its cause, or until the
// store turns out to be damaged. Whenever it is lost, the store is loaded
// anew.
func (i *Image) Run(ctx context.Context) error {
	delay := firstRetry
	for {
		err := i.load(ctx)
		if err == nil {
			delay = firstRetry
			err = i.kv.Watch(ctx, store.Prefix, i.Revision()+1, i.apply)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, damaged := errors.AsType[*damageError](err); damaged {
			return err
		}
		i.logger.DebugContext(ctx, "metadata store lost", slog.Int64("revision", i.Revision()), slog.Any("err", err))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(delay):
		}
		delay = min(2*delay, lastRetry)
	}
}

// load replaces the view by what the store holds now, at one revision.
func (i *Image) load(ctx context.Context) error {
	var (
		changes []store.Change
		at      = store.Range{Prefix: store.Prefix, Limit: pageEntries}
	)
	for {
		page, err := i.kv.Range(ctx, at)
		if err != nil {
			return fmt.Errorf("load the metadata: %w", err)
		}
		if at.Revision == 0 {
			at.Revision = page.Revision
		}
		for _, e := range page.Entries {
			c, err := store.Decode(store.Event{Entry: e})
			if err != nil {
				return &damageError{err}
			}
			changes = append(changes, c)
		}
		if !page.More {
			break
		}
		at.After = page.Entries[len(page.Entries)-1].Key
	}
	// Keys come in the order of the alphabet; partitions need their topics.
	slices.SortStableFunc(changes, func(a, b store.Change) int { return int(a.Key.Kind) - int(b.Key.Kind) })
	v := newView()
	for _, c := range changes {
		if err := v.apply(c); err != nil {
			return &damageError{err}
		}
	}
	v.Revision = at.Revision
	i.publish(func() {
		i.view = v
		i.history.reset(at.Revision)
	})
	return nil
}

// apply takes whole revisions of the watch.
func (i *Image) apply(events []store.Event) error {
	changes := make([]store.Change, len(events))
	for n, e := range events {
		var err error
		if changes[n], err = store.Decode(e); err != nil {
			return &damageError{err}
		}
	}
	var err error
	i.publish(func() {
		for len(changes) > 0 && err == nil {
			n := slices.IndexFunc(changes, func(c store.Change) bool { return c.Revision != changes[0].Revision })
			if n < 0 {
				n = len(changes)
			}
			err = i.applyRevision(changes[:n])
			changes = changes[n:]
		}
	})
	if err != nil {
		return &damageError{err}
	}
	return nil
}

// applyRevision takes all changes of one revision. REQUIRES: mu.
func (i *Image) applyRevision(changes []store.Change) error {
	t := newTelling(&i.view)
	for _, c := range changes {
		t.before(c)
		if err := i.view.apply(c); err != nil {
			return err
		}
		t.after(c)
	}
	i.view.Revision = changes[0].Revision
	i.history.add(i.view.Revision, t.done())
	return nil
}

func (i *Image) publish(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
	close(i.changed)
	i.changed = make(chan struct{})
}
