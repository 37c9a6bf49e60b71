package upkeep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// bulkTries is how often in a row a bulk operation's next piece may fail, an
// interval or two apart, before the operation ends.
const bulkTries = 5

// trouble is an operation that couldn't be carried on: how often in a row, and when
// it was tried last.
type trouble struct {
	tries int
	at    time.Time
}

// bulks carries on the bulk operations under way, a piece of each in turn. One
// that can't be carried on holds up none of the others.
func (k *Keeper) bulks(ctx context.Context) error {
	for k.goOn(ctx) {
		running, err := k.running()
		if err != nil || len(running) == 0 {
			return err
		}
		for _, bulk := range running {
			err := k.carryOn(ctx, bulk)
			if its, ok := errors.AsType[*bulkError](err); ok {
				err = k.fail(ctx, bulk, its)
			} else {
				delete(k.troubles, bulk.ID)
			}
			if err != nil {
				return fmt.Errorf("operation %s: %w", bulk.ID, err)
			}
		}
	}
	return nil
}

// bulkError is what keeps one operation from being carried on, and no other.
type bulkError struct {
	err     error
	forGood bool // it will be the same the next time
}

func (e *bulkError) Error() string { return e.err.Error() }
func (e *bulkError) Unwrap() error { return e.err }

// running lists the operations under way, but those that failed just now.
func (k *Keeper) running() (running []fsm.Bulk, err error) {
	view, err := k.cfg.State.View()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	all, err := view.Bulks()
	for _, bulk := range all {
		if bulk.Record.FinishedAt == 0 && time.Since(k.troubles[bulk.ID].at) >= interval {
			running = append(running, bulk)
		}
	}
	return running, err
}

// carryOn brings the next piece of an operation into the log.
func (k *Keeper) carryOn(ctx context.Context, bulk fsm.Bulk) error {
	piece, err := k.cut(bulk)
	if err != nil {
		return &bulkError{err: err}
	}
	changed, err := k.progress(ctx, piece)
	if refused, ok := errors.AsType[*refusal](err); ok {
		return &bulkError{err: refused, forGood: true}
	}
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

// fail has an operation wait for its next try, or ends it where it stands: what it
// has changed stays changed, and why it ended is there for whoever asks.
func (k *Keeper) fail(ctx context.Context, bulk fsm.Bulk, why *bulkError) error {
	tries := k.troubles[bulk.ID].tries + 1
	if !why.forGood && tries < bulkTries {
		k.cfg.Logger.Warn("bulk operation goes on later", "id", bulk.ID, "tries", tries, "error", why)
		k.troubles[bulk.ID] = trouble{tries: tries, at: time.Now()}
		return nil
	}
	delete(k.troubles, bulk.ID)
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
