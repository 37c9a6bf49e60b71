package upkeep

import (
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// purge lets deleted mail go whose undo time is over.
func (k *Keeper) purge(now time.Time) (*pb.Event, error) {
	targets, err := k.cfg.State.UndoOver(now, leavingPiece)
	if err != nil || len(targets) == 0 {
		return nil, err
	}
	return &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: targets}}}, nil
}

// expireFrozen drops reports that were frozen for too long.
func (k *Keeper) expireFrozen(now time.Time) (*pb.Event, error) {
	before := now.Add(-k.cfg.State.Settings().FrozenAge)
	targets, err := k.cfg.State.FrozenBefore(before, leavingPiece)
	if err != nil || len(targets) == 0 {
		return nil, err
	}
	return &pb.Event{Kind: &pb.Event_FrozenExpired{FrozenExpired: &pb.FrozenExpired{
		Targets: targets, Before: before.UnixNano(),
	}}}, nil
}

// prune lets messages go whose time in the log is over. Applying it checks the
// retention again, and bounds the piece.
func (k *Keeper) prune(now time.Time) (*pb.Event, error) {
	before := now.Add(-k.cfg.State.Settings().LogRetention)
	if some, err := k.cfg.State.HasEndedBefore(before); err != nil || !some {
		return nil, err
	}
	return &pb.Event{Kind: &pb.Event_HistoryPruned{HistoryPruned: &pb.HistoryPruned{Before: before.UnixNano()}}}, nil
}
