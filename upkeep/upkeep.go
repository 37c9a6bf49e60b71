// Package upkeep carries on what the cluster owes by itself, whoever asked for
// it: bulk operations piece by piece, the end of what was deleted and can't come
// back any more, and the end of reports that were frozen for too long.
//
// It runs on every node, and works on the one that leads. All of its progress is
// in the log, so the next leader goes on where this one stood; where two nodes
// believe to lead, the log takes the step of one of them.
package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// Cluster brings events into the log.
type Cluster interface {
	// Propose returns what applying the event came to, and at which index.
	Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error)
	// Leads reports whether this node leads, with a quorum behind it.
	Leads() bool
}

// Config is what a Keeper works on.
type Config struct {
	State   *fsm.State
	Cluster Cluster
	Now     func() time.Time
	Logger  *slog.Logger
}

const (
	// bulkPiece is how many recipients one event of a bulk operation changes. It
	// keeps the state's goroutine busy for some ten milliseconds.
	bulkPiece = 200
	// leavingPiece is how many recipients one event lets go.
	leavingPiece = 500
	// interval is the time between looks at what has come due.
	interval = time.Second
	// maxPause bounds the pause between two pieces.
	maxPause = time.Second
)

// Keeper does the upkeep of one node.
type Keeper struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Keeper, error) {
	if cfg.State == nil || cfg.Cluster == nil || cfg.Now == nil || cfg.Logger == nil {
		return nil, errors.New("upkeep: state, cluster, clock and logger are needed")
	}
	return &Keeper{cfg: cfg}, nil
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if k.cfg.Cluster.Leads() {
			if err := k.round(ctx); err != nil && ctx.Err() == nil {
				k.cfg.Logger.Warn("upkeep goes on later", "error", err)
			}
		}
		select {
		case <-ticker.C:
		case <-k.cfg.State.BulksChanged():
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *Keeper) round(ctx context.Context) error {
	return errors.Join(k.bulks(ctx), k.purge(ctx), k.expireFrozen(ctx))
}

// propose brings an event into the log and waits until it is applied here.
func (k *Keeper) propose(ctx context.Context, event *pb.Event) error {
	event.Time = k.cfg.Now().UnixNano()
	result, index, err := k.cfg.Cluster.Propose(ctx, event, nil)
	if err != nil {
		return err
	}
	switch result.Code {
	case pb.EventResult_CODE_OK, pb.EventResult_CODE_STALE:
		return k.cfg.State.WaitApplied(ctx, index)
	}
	return fmt.Errorf("%s: %s", result.Code, result.Text)
}

// goOn: another round of work may follow.
func (k *Keeper) goOn(ctx context.Context) bool { return ctx.Err() == nil && k.cfg.Cluster.Leads() }

// purge lets deleted mail go whose undo time is over.
func (k *Keeper) purge(ctx context.Context) error {
	for k.goOn(ctx) {
		targets, err := k.cfg.State.UndoOver(k.cfg.Now(), leavingPiece)
		if err != nil || len(targets) == 0 {
			return err
		}
		if err := k.propose(ctx, &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: targets}}}); err != nil {
			return fmt.Errorf("purge deleted mail: %w", err)
		}
	}
	return nil
}

// expireFrozen drops reports that were frozen for too long.
func (k *Keeper) expireFrozen(ctx context.Context) error {
	for k.goOn(ctx) {
		before := k.cfg.Now().Add(-k.cfg.State.Settings().FrozenAge)
		targets, err := k.cfg.State.FrozenBefore(before, leavingPiece)
		if err != nil || len(targets) == 0 {
			return err
		}
		event := &pb.Event{Kind: &pb.Event_FrozenExpired{FrozenExpired: &pb.FrozenExpired{
			Targets: targets, Before: before.UnixNano(),
		}}}
		if err := k.propose(ctx, event); err != nil {
			return fmt.Errorf("drop frozen reports: %w", err)
		}
	}
	return nil
}
