package store

import (
	"context"
	"fmt"
	"strings"
)

// Active is who is the active controller, as the election key says.
type Active struct {
	// ControllerID is its identity; -1: nobody.
	ControllerID int32
	// Term is the raft term in which it was elected.
	Term uint64
	// Revision is that of the election; 0: there was none.
	Revision int64
}

// The election key holds text and no message, because it is not metadata and
// no broker ever sees it.
const activeForm = "controller %d term %d"

func (a Active) bytes() []byte { return fmt.Appendf(nil, activeForm, a.ControllerID, a.Term) }

func parseActive(b []byte) (Active, error) {
	var a Active
	if _, err := fmt.Fscanf(strings.NewReader(string(b)), activeForm, &a.ControllerID, &a.Term); err != nil {
		return Active{}, fmt.Errorf("parse %q: %w", b, err)
	}
	return a, nil
}

// Campaign makes a controller that leads raft in that term the active one, by
// writing the election key, and returns the right to write. Whatever another,
// or this one before, has still in flight is carried out before that or never.
// It fails with ErrDeposed when the key was written in the term by another or
// in a later one.
func Campaign(ctx context.Context, kv KV, controllerID int32, term uint64) (*Writer, error) {
	key := ElectionKey.String()
	page, err := kv.Range(ctx, Range{Prefix: key, Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("read the election key: %w", err)
	}
	var old Active
	if len(page.Entries) > 0 {
		if old, err = parseActive(page.Entries[0].Value); err != nil {
			return nil, &ValueError{Key: key, Cause: err}
		}
		old.Revision = page.Entries[0].Revision
		if old.Term > term || old.Term == term && old.ControllerID != controllerID {
			return nil, fmt.Errorf("controller %d in term %d: %w", old.ControllerID, old.Term, ErrDeposed)
		}
	}
	return elect(ctx, kv, old.Revision, Active{ControllerID: controllerID, Term: term})
}

// Renew writes the election key anew for another term in which this controller
// leads. It fails with ErrDeposed when anybody has been elected since.
func (w *Writer) Renew(ctx context.Context, term uint64) (*Writer, error) {
	return elect(ctx, w.kv, w.active.Revision, Active{ControllerID: w.active.ControllerID, Term: term})
}

func elect(ctx context.Context, kv KV, last int64, me Active) (*Writer, error) {
	key := ElectionKey.String()
	rev, held, err := kv.Txn(ctx, Txn{
		Compares: []Compare{{Key: key, Revision: last}},
		Ops:      []Op{{Kind: OpPut, Key: key, Value: me.bytes()}},
	})
	if err != nil {
		return nil, fmt.Errorf("write the election key: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("write the election key: %w", ErrDeposed)
	}
	me.Revision = rev
	return &Writer{kv: kv, active: me}, nil
}
