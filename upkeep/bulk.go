package upkeep

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// bulks carries on the bulk operations under way, a piece of each in turn. One
// that can't be carried on holds up none of the others.
func (k *Keeper) bulks(ctx context.Context) error {
	for k.goOn(ctx) {
		running, err := k.running()
		if err != nil {
			k.later(ctx, unlisted, err)
			return nil
		}
		if len(running) == 0 {
			return nil
		}
		for _, bulk := range running {
			err := k.carryOn(ctx, bulk)
			unread, refused := (*unreadError)(nil), (*refusal)(nil)
			switch {
			case errors.As(err, &unread):
				k.later(ctx, bulk, unread)
				continue
			case errors.As(err, &refused):
				err = k.end(ctx, bulk, refused)
			}
			k.solved(bulk.ID)
			if err != nil {
				return fmt.Errorf("operation %s: %w", bulk.ID, err)
			}
		}
	}
	return nil
}

// unreadError is a failure to read this node's own state. Another node has its own
// copy, so it says nothing about the operation.
type unreadError struct{ err error }

func (e *unreadError) Error() string { return e.err.Error() }
func (e *unreadError) Unwrap() error { return e.err }

// running lists the operations under way, but those that this node couldn't read
// on just now. An error says that it can't read which there are.
func (k *Keeper) running() (running []fsm.Bulk, err error) {
	if !k.due(unlisted.ID) {
		return nil, nil
	}
	view, err := k.cfg.State.View()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	all, err := view.Bulks()
	if err != nil {
		return nil, err
	}
	k.solved(unlisted.ID)
	for _, bulk := range all {
		switch {
		case bulk.Record.FinishedAt != 0:
			k.solved(bulk.ID)
			delete(k.handed, bulk.ID)
		case k.due(bulk.ID):
			running = append(running, bulk)
		}
	}
	return running, nil
}

// carryOn brings the next piece of an operation into the log.
func (k *Keeper) carryOn(ctx context.Context, bulk fsm.Bulk) error {
	piece, err := k.cut(bulk)
	if err != nil {
		return &unreadError{err}
	}
	changed, err := k.progress(ctx, piece)
	if err != nil {
		return err
	}
	if changed && piece.Finished {
		k.cfg.Logger.Info("bulk operation finished", "id", bulk.ID, "kind", bulk.Record.Operation.GetKind().String(),
			"by", bulk.Record.Operation.GetBy(), "expected", bulk.Record.Expected)
	}
	return nil
}

func (k *Keeper) progress(ctx context.Context, piece *pb.BulkProgressed) (changed bool, err error) {
	return k.piece(ctx, kindBulk, &pb.Event{
		Time: k.cfg.Now().UnixNano(), Kind: &pb.Event_BulkProgressed{BulkProgressed: piece},
	})
}

func (k *Keeper) cut(bulk fsm.Bulk) (piece *pb.BulkProgressed, err error) {
	view, err := k.cfg.State.View()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	return view.BulkPiece(bulk, bulkPiece)
}

// end ends an operation that the state refuses to carry on, where it stands: that
// is the same on every node. What it has changed stays changed, and why it ended is
// there for whoever asks.
func (k *Keeper) end(ctx context.Context, bulk fsm.Bulk, why *refusal) error {
	ended, err := k.progress(ctx, &pb.BulkProgressed{
		BulkId: bulk.ID[:], From: bulk.Record.Cursor, FromRecipient: bulk.Record.CursorRecipient,
		Cursor: bulk.Record.Cursor, CursorRecipient: bulk.Record.CursorRecipient, Failure: short(why.Error()),
	})
	if err != nil {
		return fmt.Errorf("end the operation that failed (%w): %w", why, err)
	}
	if !ended {
		return nil // another node has carried it on
	}
	k.cfg.Logger.Error("bulk operation failed", "id", bulk.ID, "kind", bulk.Record.Operation.GetKind().String(),
		"by", bulk.Record.Operation.GetBy(), "recipients", bulk.Record.Changed, "error", why)
	return nil
}

// short makes an error fit into an event: valid UTF-8, bounded.
func short(text string) string {
	if len(text) > fsm.MaxReason {
		text = text[:fsm.MaxReason]
	}
	return strings.ToValidUTF8(text, "")
}
