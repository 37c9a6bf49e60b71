package delivery

import (
	"slices"
	"strings"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	// refusalsInARow different messages that a host answers with the same 4xx,
	// and nothing else in between, are the host's failure.
	refusalsInARow = 10
	// greylisting is over by this age: until then a 4xx to RCPT may be meant for
	// this sender and this recipient, and says nothing of the host.
	greylisting = time.Hour
)

// row is how often in a row a host gave the same answer.
type row struct {
	phase    relay.Phase
	code     int
	enhanced string
	messages map[relay.MessageID]bool // at most refusalsInARow
}

func (r *row) is(f *relay.Failure) bool {
	return r != nil && r.phase == f.Phase && r.code == f.Code && r.enhanced == f.Enhanced
}

// refusals are the rows of a destination's hosts.
type refusals map[string]*row

// learn takes note of an attempt that came to an answer, and reports whether a
// row is full with it.
func (r refusals) learn(a *attempt, refusal *relay.Failure) (full bool) {
	host := a.result.Host
	if refusal == nil {
		delete(r, host)
		return false
	}
	if refusal.Phase == relay.PhaseRcpt && a.mayBeGreylisted() || a.isAboutContent(refusal) {
		return false
	}
	if !r[host].is(refusal) {
		r[host] = &row{
			phase: refusal.Phase, code: refusal.Code, enhanced: refusal.Enhanced,
			messages: make(map[relay.MessageID]bool),
		}
	}
	messages := r[host].messages
	if len(messages) < refusalsInARow {
		messages[a.id] = true
	}
	return len(messages) == refusalsInARow
}

// refusal is the 4xx with which a host answered all recipients alike, nil where
// it took one, refused one for good, or gave no answer. Of those whose turn never
// came it says nothing.
func (a *attempt) refusal() *relay.Failure {
	var first *relay.Failure
	for _, outcome := range a.result.Outcomes {
		f := outcome.Failure
		if f != nil && f.Untried {
			continue
		}
		if f == nil || f.Code < 400 || f.Code >= 500 || f.Class() != relay.TemporaryFailure {
			return nil
		}
		if first == nil {
			first = f
		}
		if f.Phase != first.Phase || f.Code != first.Code || f.Enhanced != first.Enhanced {
			return nil
		}
	}
	return first
}

// isAboutContent: what was marked as spam, or is deferred by a policy once its
// content was seen (RFC 3463 section 3.8), is deferred for what it is. A flood of
// it is no outage, or it would keep fresh mail waiting.
func (a *attempt) isAboutContent(refusal *relay.Failure) bool {
	if refusal.Phase == relay.PhaseDot && strings.HasPrefix(refusal.Enhanced, "4.7.") {
		return true
	}
	return slices.ContainsFunc(a.recipients, func(r *pb.RecipientRecord) bool { return r.Recipient.GetSpam() })
}

func (a *attempt) mayBeGreylisted() bool {
	if a.ended.Sub(time.Unix(0, a.message.AcceptedAt)) < greylisting {
		return true
	}
	for _, r := range a.recipients {
		if r.Attempts == 0 {
			return true
		}
	}
	return false
}

// goesOn reports whether a probe found what the outage is about: a host that
// refuses all alike is not up because it answers.
func goesOn(outage *pb.Failure, f *relay.Failure) bool {
	return f != nil && outage != nil && outage.Phase == string(f.Phase) &&
		outage.Code == uint32(f.Code) && outage.Enhanced == f.Enhanced
}
