package delivery

import (
	"context"
	"errors"
	"slices"
	"sync"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// A round returns so many recipients of each destination, so many messages of
// them at a time: an order may be on the whole queue, and each report is an
// event of its own that has to be written to disk everywhere.
const (
	returnBatch    = 500
	returnParallel = 8
)

// returnOrdered returns what an operator has ordered to be returned, for the
// destinations that this node owns. One round at a time.
func (s *Scheduler) returnOrdered(ctx context.Context) {
	if s.returning || !s.mayAct() {
		return
	}
	var owned []string
	for name, q := range s.queues {
		if q.owned {
			owned = append(owned, name)
		}
	}
	s.returning = true
	s.start(func() func() {
		s.returnFromAll(ctx, owned)
		return func() { s.returning = false }
	})
}

func (s *Scheduler) returnFromAll(ctx context.Context, destinations []string) {
	// Mostly there are none: one look tells, however many destinations there are.
	some, err := s.cfg.State.AnyReturning()
	if err != nil {
		s.log.Error("return", "error", err)
	}
	if !some {
		return
	}
	for _, name := range destinations {
		if err := s.returnFrom(ctx, name); err != nil {
			s.log.Error("return", "destination", name, "error", err)
		}
	}
}

func (s *Scheduler) returnFrom(ctx context.Context, destination string) error {
	targets, err := s.cfg.State.Returning(destination, returnBatch)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(targets, returnParallel) {
		if ctx.Err() != nil || !s.cfg.Lease.Leased() {
			return nil
		}
		errs := make([]error, len(part))
		var group sync.WaitGroup
		for i, target := range part {
			group.Go(func() { errs[i] = s.returnMessage(target) })
		}
		group.Wait()
		for i, err := range errs {
			switch {
			case errors.Is(err, fsm.ErrClosed):
				return err
			case err != nil:
				// Those behind it are returned all the same.
				s.log.Error("return", "destination", destination, "id", relay.MessageID(part[i].MessageId), "error", err)
			}
		}
	}
	return nil
}

// returnMessage returns recipients of one message, as many as fit in a report at
// a time.
func (s *Scheduler) returnMessage(target *pb.Target) error {
	id := relay.MessageID(target.MessageId)
	message, returned, err := s.returned(id, target.Recipients)
	if errors.Is(err, fsm.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for part := range slices.Chunk(returned, maxRecipients) {
		s.giveUp(id, message, nil, part, pb.Bounced_REASON_RETURNED, nil)
	}
	return nil
}

func (s *Scheduler) returned(id relay.MessageID, numbers []uint32) (*pb.MessageRecord, []ended, error) {
	view, err := s.cfg.State.View()
	if err != nil {
		return nil, nil, err
	}
	defer view.Close()
	message, err := view.Message(id)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(numbers) // by RCPT, as events list recipients
	var returned []ended
	for _, number := range numbers {
		record, err := view.Recipient(id, number)
		if err != nil {
			return nil, nil, err
		}
		returned = append(returned, ended{number: number, record: record, failure: failureFrom(finalFailure(view, record))})
	}
	return message, returned, nil
}
