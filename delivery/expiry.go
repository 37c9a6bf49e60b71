package delivery

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// expiryBatch is how many recipients of a domain one round returns at most.
const expiryBatch = 200

// expire returns what has outlived its retention, and warns of what is late, for
// the domains whose destination this node owns. One round at a time.
func (s *Scheduler) expire(ctx context.Context) {
	if s.expiring || !s.mayAct() {
		return
	}
	s.expiring = true
	s.start(func() func() {
		for _, domain := range s.cfg.State.Domains() {
			if owner, _ := s.cfg.State.Owner(domain.Destination); owner == s.cfg.Node {
				if err := s.expireDomain(ctx, domain.Name); err != nil {
					s.log.Error("expire", "domain", domain.Name, "error", err)
				}
			}
		}
		return func() { s.expiring = false }
	})
}

func (s *Scheduler) expireDomain(ctx context.Context, domain string) error {
	for _, class := range fsm.PendingClasses() {
		if err := s.expireClass(ctx, domain, class, s.cfg.State.PolicyFor(domain, class).Retention); err != nil {
			return err
		}
	}
	return s.warnDomain(ctx, domain)
}

func (s *Scheduler) expireClass(ctx context.Context, domain string, class fsm.Class, retention time.Duration) error {
	rows, err := s.cfg.State.Oldest(domain, class, s.cfg.Now().Add(-retention), expiryBatch)
	if err != nil {
		return err
	}
	for len(rows) > 0 && ctx.Err() == nil && s.cfg.Lease.Leased() {
		n := 1
		for n < len(rows) && n < maxRecipients && rows[n].ID == rows[0].ID {
			n++
		}
		switch err := s.expireMessage(rows[:n]); {
		case errors.Is(err, fsm.ErrClosed):
			return err
		case err != nil && !errors.Is(err, fsm.ErrNotFound):
			// Those behind it end all the same.
			s.log.Error("expire", "id", rows[0].ID, "error", err)
		}
		rows = rows[n:]
	}
	return nil
}

// expireMessage returns recipients of one message, in one report.
func (s *Scheduler) expireMessage(rows []fsm.OpenRecipient) error {
	message, expired, err := s.expired(rows)
	if err != nil {
		return err
	}
	s.giveUp(rows[0].ID, message, nil, expired, pb.Bounced_REASON_EXPIRED, nil)
	return nil
}

// expired leaves out recipients whose policy gives them longer by now: a round takes a
// while, and the policy that it began with may be another one. And those with an attempt
// that is under way or about to be made: that one has the last word. And those whose body
// another node may yet deliver, where this one can't read it.
func (s *Scheduler) expired(rows []fsm.OpenRecipient) (*pb.MessageRecord, []ended, error) {
	view, err := s.cfg.State.View()
	if err != nil {
		return nil, nil, err
	}
	defer view.Close()
	message, err := view.Message(rows[0].ID)
	if err != nil {
		return nil, nil, err
	}
	isSomewhere := sync.OnceValues(func() (bool, error) {
		found, err := s.copiesOf(view, rows[0].ID)
		return found.somewhere, err
	})
	var expired []ended
	for _, row := range rows {
		record, err := view.Recipient(row.ID, row.Recipient)
		if err != nil {
			return nil, nil, err
		}
		destination, _ := view.Destination(record.Destination)
		if record.State != pb.RecipientState_RECIPIENT_STATE_PENDING || record.Claim != nil || record.Ordered != nil ||
			!s.isOver(view, message, record) || s.attemptComes(record, destination) {
			continue
		}
		if mayAwaitCopy(record, destination) {
			awaits, err := isSomewhere()
			if err != nil {
				return nil, nil, err
			}
			if awaits {
				continue
			}
		}
		expired = append(expired, ended{number: row.Recipient, record: record, failure: failureFrom(finalFailure(view, record))})
	}
	return message, expired, nil
}

// attemptComes: the destination isn't down and not suspended, and the recipient is
// due, or hasn't been tried since an outage was over. One failure makes a destination
// suspect; the next probe, which is due at once, shows whether it is down.
func (s *Scheduler) attemptComes(record *pb.RecipientRecord, destination *pb.DestinationRecord) bool {
	if destination == nil || destination.Health.GetState() == pb.DestinationHealth_STATE_DOWN || destination.Suspended != nil {
		return false
	}
	return !time.Unix(0, record.NextAttempt).After(s.cfg.Now()) ||
		destination.Health.RecoveredAt > record.LastError.GetAt()
}
