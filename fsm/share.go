package fsm

import (
	"slices"

	pb "holdfast/proto/holdfast/v1"
)

// moveShare keeps what a domain's limits count: a message counts once at each
// domain where it has an open recipient, with all its bytes.
func (t *tx) moveShare(m *message, before, now *pb.RecipientRecord) {
	from, wasOpen := countedDomain(before), isOpen(before.GetState())
	to, open := countedDomain(now), isOpen(now.State)
	if wasOpen && open && from == to {
		return
	}
	if wasOpen {
		t.leaveShare(m, from)
	}
	if open {
		t.joinShare(m, to)
	}
}

func (t *tx) joinShare(m *message, domain string) {
	at := shareOf(m.rec, domain)
	if at < 0 {
		at = len(m.rec.Shares)
		m.rec.Shares = append(m.rec.Shares, &pb.MessageRecord_Share{Domain: domain})
		t.addShare(m, domain, 1)
	}
	m.rec.Shares[at].Open++
}

func (t *tx) leaveShare(m *message, domain string) {
	at := shareOf(m.rec, domain)
	if at < 0 {
		return
	}
	if m.rec.Shares[at].Open--; m.rec.Shares[at].Open == 0 {
		m.rec.Shares = slices.Delete(m.rec.Shares, at, at+1)
		t.addShare(m, domain, ^uint64(0))
	}
}

func shareOf(m *pb.MessageRecord, domain string) int {
	return slices.IndexFunc(m.Shares, func(s *pb.MessageRecord_Share) bool { return s.Domain == domain })
}

// addShare adds n, which may be -1, times the message.
func (t *tx) addShare(m *message, domain string, n uint64) {
	c := t.counter('d', domain)
	c.Messages += n
	c.Bytes += n * m.rec.Content.GetSize()
}

// Queued is how many messages, and how many bytes, are held for a domain: what
// its limits are about.
func (s *State) Queued(domain string) (messages, bytes uint64) {
	t := s.published()
	c, _ := t.counters.Get(keyOfCounter('d', domain))
	return c.GetMessages(), c.GetBytes()
}
