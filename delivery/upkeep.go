package delivery

import (
	"context"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// prunePause is between two pieces of pruning, so that mail goes ahead of it.
const prunePause = 20 * time.Millisecond

// prune lets messages go whose time in the log is over. One node of the cluster
// does it; a lease shows that its clock agrees with the others'. One round at a
// time.
func (s *Scheduler) prune(ctx context.Context) {
	if s.pruning || !s.mayAct() || s.cfg.State.Keeper() != s.cfg.Node {
		return
	}
	s.pruning = true
	s.start(func() func() {
		if err := s.pruneBefore(ctx, s.cfg.Now().Add(-s.cfg.State.Settings().LogRetention)); err != nil && ctx.Err() == nil {
			s.log.Warn("prune the log", "error", err)
		}
		return func() { s.pruning = false }
	})
}

func (s *Scheduler) pruneBefore(ctx context.Context, before time.Time) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		if more, err := s.cfg.State.HasEndedBefore(before); err != nil || !more || !s.cfg.Lease.Leased() {
			return err
		}
		event := s.event(&pb.Event{Kind: &pb.Event_HistoryPruned{HistoryPruned: &pb.HistoryPruned{Before: before.UnixNano()}}})
		result, index, err := s.cfg.Proposer.Propose(ctx, event, nil)
		if err == nil {
			err = s.cfg.State.WaitApplied(ctx, index)
		}
		if err != nil {
			return err
		}
		if result.Code != pb.EventResult_CODE_OK {
			// The retention was raised meanwhile, or another node was quicker.
			s.log.Debug("nothing pruned", "code", result.Code, "reason", result.Text)
			return nil
		}
		s.metrics.prunes.Inc()
		pause.Reset(prunePause)
	}
}
