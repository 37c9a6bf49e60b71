package audit

import (
	"fmt"
	"slices"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// NoLimit for Books.MaxDuplicates.
const NoLimit = -1

// heldAfter is how many attempts of unknown outcome hold a recipient; from then
// on an operator decides.
const heldAfter = 2

// Books are what a run leaves to be compared.
type Books struct {
	Answers      []load.Answer  // what the clients were told
	Transactions []sink.Message // what the destination saw, broken off ones too; Cluster fills it in
	// MaxDuplicates is how many messages may have come more than once: the slots
	// in use at the deaths. NoLimit wants each to be marked only.
	MaxDuplicates int
	// HeldAllowed: what is held after attempts of unknown outcome waits for an
	// operator, as it should.
	HeldAllowed bool
	// UnderWay: mail goes on, or a destination is down. What the log has as pending
	// or held is neither lost nor delivered.
	UnderWay bool

	logged map[string]*pb.Message // the cluster's log, by the ids that senders gave
	marks  func(*pb.Message) ([]time.Time, error)
}

// Findings count what never came, is in the queue, and came, or may have come,
// more than once.
type Findings struct{ Lost, Queued, Duplicates, InDoubt, Held int }

func (b *Books) check(j *Journal) (Findings, error) {
	copies := b.copies()
	found := b.doubtful()
	found.Lost, found.Queued = b.checkAnswers(j, copies)
	checkContents(j, copies)
	if err := b.checkDuplicates(j, copies, &found); err != nil {
		return found, err
	}
	return found, b.checkOverlaps(j)
}

// copies are the messages that arrived, by their ids, each in the order in which
// the attempts began.
func (b *Books) copies() map[string][]sink.Message {
	all := map[string][]sink.Message{}
	for _, m := range b.Transactions {
		if m.Committed {
			all[m.ID] = append(all[m.ID], m)
		}
	}
	for _, of := range all {
		slices.SortFunc(of, func(x, y sink.Message) int { return x.Started.Compare(y.Started) })
	}
	return all
}

// isHeld: attempts of unknown outcome were made, as many as it takes.
func isHeld(m *pb.Message) bool {
	return slices.ContainsFunc(m.GetRecipients(), func(r *pb.MessageRecipient) bool {
		return r.State == pb.RecipientState_RECIPIENT_STATE_HELD && r.InDoubt >= heldAfter
	})
}

// isQueued: it may yet arrive, or has, and the log will say so.
func isQueued(m *pb.Message) bool {
	switch m.GetState() {
	case pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD:
		return true
	}
	return false
}

// checkAnswers holds each answer against the other two books.
func (b *Books) checkAnswers(j *Journal, copies map[string][]sink.Message) (lost, queued int) {
	counts, arrivals := map[load.Outcome]int{}, map[load.Outcome]int{}
	unlogged, held := 0, 0
	for _, a := range b.Answers {
		counts[a.Outcome]++
		arrived := len(copies[a.ID]) > 0
		if arrived {
			arrivals[a.Outcome]++
		}
		m := b.logged[a.ID]
		switch {
		case a.Outcome != load.Accepted:
		case b.HeldAllowed && m.GetId() == a.QueueID && isHeld(m):
			held++
		case b.UnderWay && m.GetId() == a.QueueID && isQueued(m):
			queued++
		case !arrived:
			lost++
			b.sayFew(j, lost, "lost", a, m)
		case m.GetId() != a.QueueID || m.GetState() != pb.RecipientState_RECIPIENT_STATE_DELIVERED:
			unlogged++
			b.sayFew(j, unlogged, "not delivered by the log", a, m)
		}
	}
	j.Say("answers: %d accepted, %d deferred (4xx), %d refused (5xx), %d cut off before the final dot, %d after it",
		counts[load.Accepted], counts[load.Deferred], counts[load.Refused], counts[load.Lost], counts[load.Unknown])
	j.Say("arrived though not answered 250: %d with a lost reply, %d deferred", arrivals[load.Unknown], arrivals[load.Deferred])
	j.Say("LOST: %d; held for an operator after %d attempts in doubt: %d; in the queue: %d", lost, heldAfter, held, queued)
	for _, v := range []struct {
		count int
		what  string
	}{
		{lost, "messages answered 250 never arrived"},
		{unlogged, "messages answered 250 aren't in the log as delivered"},
		{arrivals[load.Refused] + arrivals[load.Lost], "messages that were refused or cut off before their end arrived"},
		{counts[load.Refused], "messages were refused for good (5xx)"},
	} {
		if v.count > 0 {
			j.Violation("%d %s", v.count, v.what)
		}
	}
	if counts[load.Accepted] == 0 {
		j.Violation("nothing was accepted")
	}
	return lost, queued
}

// sayFew shows the first few of a kind.
func (b *Books) sayFew(j *Journal, number int, what string, a load.Answer, m *pb.Message) {
	if number > 5 {
		return
	}
	entry := "not in the log"
	if m != nil {
		entry = fmt.Sprintf("message %s, %s", m.Id, m.State)
	}
	j.Say("%s: %s, queue id %s, accepted by %s at %s: %s", what, a.ID, a.QueueID, a.Address, a.At.Format(time.RFC3339Nano), entry)
}

// checkContents compares every copy with the checksum that it carries.
func checkContents(j *Journal, copies map[string][]sink.Message) {
	spoilt := 0
	for id, all := range copies {
		for _, m := range all {
			if _, err := load.Identify(m.Data); err != nil {
				spoilt++
				j.Say("spoilt: %s: %v", id, err)
			}
		}
	}
	if spoilt > 0 {
		j.Violation("%d messages arrived changed", spoilt)
	}
}

// checkDuplicates wants each further copy to have begun after the log marked
// the message in doubt.
func (b *Books) checkDuplicates(j *Journal, copies map[string][]sink.Message, found *Findings) error {
	for id, all := range copies {
		if len(all) == 1 {
			continue
		}
		found.Duplicates += len(all) - 1
		marks, err := b.marksOf(id)
		if err != nil {
			return err
		}
		for i, again := range all[1:] {
			if i >= len(marks) || again.Started.Before(marks[i]) {
				j.Violation("%s arrived again at %s without having been marked in doubt before (marks: %v)", id, again.Started.Format(time.RFC3339Nano), marks)
			}
		}
	}
	j.Say("DUPLICATES: %d; marked in doubt: %d, of these held: %d", found.Duplicates, found.InDoubt, found.Held)
	if b.MaxDuplicates != NoLimit && found.Duplicates > b.MaxDuplicates {
		j.Violation("%d duplicates, but the slots in use at the deaths were %d", found.Duplicates, b.MaxDuplicates)
	}
	return nil
}

// doubtful goes by the answers: the log may have messages of other books. A message
// that was offered again, after a 4xx or a lost reply, has several.
func (b *Books) doubtful() (found Findings) {
	seen := map[string]bool{}
	for _, a := range b.Answers {
		if seen[a.ID] {
			continue
		}
		seen[a.ID] = true
		for _, r := range b.logged[a.ID].GetRecipients() {
			if r.InDoubt > 0 {
				found.InDoubt++
			}
			if r.State == pb.RecipientState_RECIPIENT_STATE_HELD {
				found.Held++
			}
		}
	}
	return found
}

func (b *Books) marksOf(id string) ([]time.Time, error) {
	m := b.logged[id]
	if m == nil {
		return nil, nil
	}
	return b.marks(m)
}
