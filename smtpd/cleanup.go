package smtpd

import (
	"context"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	// cleanupGrace is how long taking back may go on at shutdown.
	cleanupGrace = 5 * time.Second
	// piecesPerAbandon is how many pieces one ContentAbandoned drops.
	piecesPerAbandon = 1000

	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// cleanUp runs one taking-back beside the sessions. The number of those is
// bounded because no message is begun while there are too many (overloaded).
func (s *Server) cleanUp(job func(ctx context.Context)) {
	s.metrics.cleanups.Inc()
	s.cleanupsRunning.Add(1)
	s.cleanups.Go(func() {
		job(s.cleaning)
		s.cleanupsRunning.Add(-1)
		s.metrics.cleanups.Dec()
	})
}

// overloaded reports whether as many messages are being taken back as there may
// be connections: the cluster must be in trouble.
func (s *Server) overloaded() bool {
	return s.cleanupsRunning.Load() >= int64(s.cfg.MaxConnections)
}

// abandonAfter drops the pieces of a message that won't be accepted, once the
// outcome of each is known.
func (s *Server) abandonAfter(b *body, pieces uint32) {
	s.cleanUp(func(ctx context.Context) {
		for range cap(b.underWay) {
			b.underWay <- struct{}{}
		}
		s.abandon(ctx, b.id, pieces)
	})
}

// abandon goes on over a loss of quorum of any length: an incarnation that outlives
// it would keep the pieces on all disks. What is left when the server ends goes with
// its incarnation.
func (s *Server) abandon(ctx context.Context, id relay.MessageID, pieces uint32) {
	for dropped := uint32(0); dropped < pieces; dropped += piecesPerAbandon {
		_, err := s.pursue(ctx, func() *pb.Event {
			event := s.newEvent()
			event.Kind = &pb.Event_ContentAbandoned{ContentAbandoned: &pb.ContentAbandoned{MessageId: id[:]}}
			return event
		})
		if err != nil {
			s.log.Warn("pieces of a refused message not abandoned", "id", id.String(), "error", err)
			return
		}
	}
}

// abortAcceptance takes back a message whose client is told 451 before the
// outcome of its acceptance is known. Whichever of the two comes first in the
// log, the message is gone in the end, unless its delivery has begun: then it
// stays, and so does its content.
func (s *Server) abortAcceptance(b *body) {
	id, pieces := b.id, b.pieces
	b.pieces = 0
	s.metrics.aborts.Inc()
	s.cleanUp(func(ctx context.Context) {
		result, err := s.pursue(ctx, func() *pb.Event {
			event := s.newEvent()
			event.Kind = &pb.Event_AcceptanceAborted{AcceptanceAborted: &pb.AcceptanceAborted{MessageId: id[:]}}
			return event
		})
		switch {
		case err != nil:
			s.log.Error("message not taken back: its sender was told 451 and may send it again", "id", id.String(), "error", err)
		case result.GetCode() != pb.EventResult_CODE_OK:
			s.log.Warn("message not taken back", "id", id.String(), "code", result.GetCode().String(), "text", result.GetText())
		case pieces > 0:
			s.abandon(ctx, id, pieces)
		}
	})
}

// pursue proposes an event, made anew each time, until its outcome is known or
// ctx ends.
func (s *Server) pursue(ctx context.Context, event func() *pb.Event) (*pb.EventResult, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		result, err := s.cfg.Proposer.Propose(ctx, event(), nil)
		if err == nil {
			return result, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}
