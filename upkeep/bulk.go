package upkeep

import (
	"context"
	"errors"
	"fmt"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// bulks carries all bulk operations on, in turn, until they are finished.
func (k *Keeper) bulks(ctx context.Context) error {
	for k.goOn(ctx) {
		running, err := k.running()
		if err != nil || len(running) == 0 {
			return err
		}
		for _, bulk := range running {
			if err := k.carryOn(ctx, bulk); err != nil {
				return fmt.Errorf("operation %s: %w", bulk.ID, err)
			}
		}
	}
	return nil
}

func (k *Keeper) running() (running []fsm.Bulk, err error) {
	view, err := k.cfg.State.View()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	all, err := view.Bulks()
	for _, bulk := range all {
		if bulk.Record.FinishedAt == 0 {
			running = append(running, bulk)
		}
	}
	return running, err
}

// carryOn carries one operation on by a piece.
func (k *Keeper) carryOn(ctx context.Context, bulk fsm.Bulk) error {
	piece, err := k.cut(bulk)
	if err != nil {
		return err
	}
	changed, err := k.piece(ctx, kindBulk, &pb.Event{
		Time: k.cfg.Now().UnixNano(), Kind: &pb.Event_BulkProgressed{BulkProgressed: piece},
	})
	if err != nil {
		return err
	}
	if changed && piece.Finished {
		k.cfg.Logger.Info("bulk operation finished", "id", bulk.ID, "kind", bulk.Record.Operation.GetKind().String(),
			"by", bulk.Record.Operation.GetBy(), "expected", bulk.Record.Expected)
	}
	return nil
}

func (k *Keeper) cut(bulk fsm.Bulk) (piece *pb.BulkProgressed, err error) {
	view, err := k.cfg.State.View()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	return view.BulkPiece(bulk, bulkPiece)
}
