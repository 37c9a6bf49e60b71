package upkeep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// bulks carries all bulk operations on, in turn, until they are finished. After
// each piece it pauses for as long as the piece took: half of the log's time is
// left to acceptances and deliveries, however much there is to do.
func (k *Keeper) bulks(ctx context.Context) error {
	for k.goOn(ctx) {
		running, err := k.running()
		if err != nil || len(running) == 0 {
			return err
		}
		for _, bulk := range running {
			began := time.Now()
			if err := k.piece(ctx, bulk); err != nil {
				return fmt.Errorf("bulk operation %s: %w", bulk.ID, err)
			}
			pause(ctx, min(time.Since(began), maxPause))
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

// piece carries one operation on by a piece.
func (k *Keeper) piece(ctx context.Context, bulk fsm.Bulk) error {
	piece, err := k.cut(bulk)
	if err != nil {
		return err
	}
	if err := k.propose(ctx, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: piece}}); err != nil {
		return err
	}
	if piece.Finished {
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

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
