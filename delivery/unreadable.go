package delivery

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	// unreadableAgain is the time to the next try of a message whose body can't be read
	// here and that no other node can be given now. It doubles up to longestUnreadable:
	// each try adds to the message's log.
	unreadableAgain   = 5 * time.Minute
	longestUnreadable = time.Hour
	// passAgain is the time after which a node that has passed a destination on for a
	// message does so once more. Had the next one delivered it, it wouldn't be back here:
	// that one can't reach the host, and the other mail pays for each change of owner.
	passAgain = time.Hour
)

// copies says where a body may be whole that a node couldn't read: each node has one
// of its own, and what is damaged on one disk isn't on the others.
type copies struct {
	somewhere bool // at a node of the cluster, even if that is away
	elsewhere bool // at another node that may own destinations now
	tried     int  // how often it couldn't be read, by any node
	// passed is when this node couldn't read it the last time before.
	passed time.Time
}

// isUnreadable: the body couldn't be read in full and as it was accepted.
func isUnreadable(f *relay.Failure) bool {
	return errors.Is(f, smtpout.ErrBody) && !interrupted(f) && !hasEnded(f) && !errors.Is(f, errTooLong)
}

// hasEnded: there is no body any more, since the message has none that wait for it.
func hasEnded(f *relay.Failure) bool {
	return errors.Is(f, smtpout.ErrBody) && errors.Is(f, fsm.ErrNotFound)
}

// failedWith is the first failure of an attempt's transaction for which is holds;
// there are none where no transaction took place.
func (a *attempt) failedWith(is func(*relay.Failure) bool) *relay.Failure {
	for _, outcome := range a.result.Outcomes {
		if outcome.Failure != nil && is(outcome.Failure) {
			return outcome.Failure
		}
	}
	return nil
}

// lookIntoBody finds out what it means that an attempt couldn't read its body.
func (s *Scheduler) lookIntoBody(a *attempt) {
	if a.failedWith(hasEnded) != nil && a.result.Accepted() == 0 && !inDoubt(a.result) {
		a.skipped = true
		return
	}
	unreadable := a.failedWith(isUnreadable)
	if unreadable == nil {
		return
	}
	s.log.Error("the body of a message can't be read here", "id", a.id, "destination", a.queue, "error", unreadable.Err)
	s.cfg.State.NoteUnreadable(a.id, unreadable.Err)
	// Whoever can't be asked may have it.
	a.copies = copies{somewhere: true}
	view, err := s.cfg.State.View()
	if err != nil {
		s.log.Error("look for another copy", "id", a.id, "error", err)
		return
	}
	defer view.Close()
	if found, err := s.copiesOf(view, a.id, s.cfg.Node); err != nil {
		s.log.Error("look for another copy", "id", a.id, "error", err)
	} else {
		a.copies = found
	}
}

// copiesOf goes by the message's log, which says who couldn't read the body when it
// was to deliver it; more are those that the log doesn't know of yet.
func (s *Scheduler) copiesOf(view *fsm.View, id relay.MessageID, more ...string) (copies, error) {
	rows, err := view.History(id, fsm.Position{}, math.MaxInt)
	if err != nil {
		return copies{}, fmt.Errorf("log of %s: %w", id, err)
	}
	couldNot, found := more, copies{}
	for _, row := range rows {
		if !wasUnreadable(row.Record.Failure) {
			continue
		}
		node := row.Record.Attempt.GetNode()
		couldNot = append(couldNot, node)
		found.tried++
		if node == s.cfg.Node {
			found.passed = time.Unix(0, row.Record.Time)
		}
	}
	for _, node := range view.Nodes() {
		found.somewhere = found.somewhere || !slices.Contains(couldNot, node.Name)
	}
	for _, name := range view.Eligible() {
		found.elsewhere = found.elsewhere || name != s.cfg.Node && !slices.Contains(couldNot, name)
	}
	return found, nil
}

// passOn has the next node own the destination where it may have whole what this one
// can't read. In the log that is a failed attempt to reach it: the other one's probe
// is another message or none, so that all goes on at once.
func (s *Scheduler) passOn(q *queue, a *attempt, v verdict) verdict {
	lately := a.ended.Sub(a.copies.passed) < passAgain
	if a.copies.elsewhere && !lately && !a.probe && q.up() {
		return verdict{failed: a.failedWith(isUnreadable), passedOn: true}
	}
	return v
}

// sortUnreadable: no attempt that counts. The message ends by its age only once every
// node has tried.
func (s *Scheduler) sortUnreadable(o *outcome, a *attempt, v verdict, e ended) {
	policy := s.cfg.State.PolicyFor(e.record.Domain, fsm.PendingClass(a.message, e.record))
	if !a.copies.somewhere && a.ended.Sub(fsm.RetentionFrom(a.message, e.record)) >= policy.Retention {
		o.expired = append(o.expired, e)
		return
	}
	delay := min(unreadableAgain<<min(a.copies.tried, 4), longestUnreadable)
	if v.passedOn {
		delay = s.cfg.Timing.HostDelay
	}
	o.uncounted = append(o.uncounted, &pb.AttemptFailed_Recipient{
		Recipient: e.number, Failure: failureRecord(e.failure), NextAttempt: a.ended.Add(delay).UnixNano(),
	})
}

// mayAwaitCopy: while its destination is down that is what keeps it, and not the body.
func mayAwaitCopy(record *pb.RecipientRecord, destination *pb.DestinationRecord) bool {
	return lastUnreadable(record) && destination.GetSuspended() == nil &&
		destination.GetHealth().GetState() != pb.DestinationHealth_STATE_DOWN
}

// lastUnreadable: the latest attempt's node couldn't read the body.
func lastUnreadable(record *pb.RecipientRecord) bool {
	return wasUnreadable(record.GetLastError())
}

// wasUnreadable is isUnreadable of what the log has: of all that this side finds out
// itself only that comes while the content is written.
func wasUnreadable(f *pb.Failure) bool {
	return f.GetOwn() && f.GetPhase() == string(relay.PhaseData)
}
