package delivery

import (
	"errors"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// expiryBatch is how many recipients of a domain one round returns at most.
const expiryBatch = 200

// expire returns what has outlived its retention, for the domains whose
// destination this node owns. One round at a time.
func (s *Scheduler) expire() {
	if s.expiring || !s.mayAct() {
		return
	}
	s.expiring = true
	s.start(func() func() {
		for _, domain := range s.cfg.State.Domains() {
			if owner, _ := s.cfg.State.Owner(domain.Destination); owner == s.cfg.Node {
				if err := s.expireDomain(domain); err != nil {
					s.log.Error("expire", "domain", domain.Name, "error", err)
				}
			}
		}
		return func() { s.expiring = false }
	})
}

func (s *Scheduler) expireDomain(domain *pb.DomainConfig) error {
	before := s.cfg.Now().Add(-s.policyOf(domain.Name).Retention)
	rows, err := s.cfg.State.Oldest(domain.Name, before, expiryBatch)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if !s.cfg.Lease.Leased() {
			return nil
		}
		if err := s.expireRecipient(row); err != nil && !errors.Is(err, fsm.ErrNotFound) {
			return err
		}
	}
	return nil
}

// expireRecipient returns one recipient, unless an attempt is under way or
// about to be made: that one has the last word.
func (s *Scheduler) expireRecipient(row fsm.OpenRecipient) error {
	view, err := s.cfg.State.View()
	if err != nil {
		return err
	}
	defer view.Close()
	record, err := view.Recipient(row.ID, row.Recipient)
	if err != nil {
		return err
	}
	message, err := view.Message(row.ID)
	if err != nil {
		return err
	}
	destination, ok := view.Destination(record.Destination)
	up := ok && destination.Health.State == pb.DestinationHealth_STATE_UP
	attemptComes := up && !time.Unix(0, record.NextAttempt).After(s.cfg.Now())
	if record.State != pb.RecipientState_RECIPIENT_STATE_PENDING || record.Claim != nil || attemptComes {
		return nil
	}
	s.giveUp(row.ID, message, nil, []ended{{number: row.Recipient, record: record}},
		pb.Bounced_REASON_EXPIRED, nil)
	return nil
}
