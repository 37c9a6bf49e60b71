package fsm

import (
	"hash/crc32"
	"math"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// messageAccepted files a message: from here on the cluster owes each of its
// recipients an end.
func (t *tx) messageAccepted(e *pb.MessageAccepted) *pb.EventResult {
	id, err := relay.MessageIDFromBytes(e.MessageId)
	if err != nil {
		return invalid("acceptance: %v", err)
	}
	if len(e.Recipients) == 0 || e.Envelope == nil || e.Content == nil {
		return invalid("acceptance of %s has no recipients, envelope or content", id)
	}
	if !isName(relay.DomainOf(e.Envelope.From)) {
		// A report to the sender is queued and listed under this domain.
		return invalid("acceptance of %s: the sender's domain has a zero byte", id)
	}
	if t.wasAborted(id) {
		return refused(pb.EventResult_CODE_ABORTED, "the acceptance of %s was aborted", id)
	}
	if t.get(keyOfID(famMessages, id)) != nil {
		return invalid("message %s exists", id)
	}
	for _, r := range e.Recipients {
		if _, ok := t.route(domainOf(r)); !ok {
			return refused(pb.EventResult_CODE_UNROUTABLE, "no domain and destination for %s", r.Address)
		}
	}
	if refusal := t.fileContent(id, e.Content); refusal != nil {
		return refusal
	}
	m := t.newMessage(id, e.Envelope, e.Content, e.Origin)
	m.rec.HeaderMessageId = e.HeaderMessageId
	if e.HeaderMessageId != "" {
		t.setIndex(keyOfHeader(e.HeaderMessageId, id), nil)
	}
	for i, r := range e.Recipients {
		domain := domainOf(r)
		destination, _ := t.route(domain)
		t.addRecipient(m, uint32(i), &pb.RecipientRecord{
			Recipient: r, Domain: domain, Destination: destination,
			State: pb.RecipientState_RECIPIENT_STATE_PENDING, NextAttempt: t.event.Time,
		})
	}
	t.saveMessage(m)
	return resultOK
}

// domainOf is the relay domain of a recipient.
func domainOf(r *pb.Recipient) string {
	if r.Domain != "" {
		return r.Domain
	}
	return relay.DomainOf(r.Address)
}

// route is the destination of a domain, if both exist.
func (t *tx) route(domain string) (destination string, ok bool) {
	config, ok := lookup(t.tables.domains, domain)
	if !ok {
		return "", false
	}
	_, ok = lookup(t.tables.destinations, config.Destination)
	return config.Destination, ok
}

// routeOfReport is the relay domain and the destination of a report, which goes by the
// default route where its domain isn't configured.
func (t *tx) routeOfReport(to *pb.Recipient) (domain, destination string, ok bool) {
	domain = domainOf(to)
	if destination, ok = t.route(domain); ok || relay.IsLiteral(domain) {
		return domain, destination, ok
	}
	if destination, ok = t.route(relay.DefaultRoute); ok {
		domain = relay.DefaultRoute
	}
	return domain, destination, ok
}

func (t *tx) newMessage(id relay.MessageID, envelope *pb.Envelope, content *pb.Content, origin *pb.Origin) *message {
	return &message{id: id, rec: &pb.MessageRecord{
		Envelope: envelope, Content: content, Origin: origin,
		AcceptedAt: t.event.Time, AcceptedIndex: t.index, AcceptedRow: t.nextRow(id, feedAccepted),
	}}
}

// addRecipient adds a recipient with its index rows.
func (t *tx) addRecipient(m *message, number uint32, rec *pb.RecipientRecord) {
	if m.rec.Recipients == 0 {
		t.setIndex(keyOfIndex(indexFrom, m.rec.Envelope.From, m.id), nil)
	}
	m.rec.Recipients++
	t.setIndexes(m, rec)
	t.saveRecipient(m, &recipient{number: number, rec: rec})
}

// fileContent checks that the whole body is there, by count, length and
// checksum: the event's payload, or pieces that were each checked as they came.
func (t *tx) fileContent(id relay.MessageID, c *pb.Content) *pb.EventResult {
	if c.Pieces == 0 {
		if uint64(len(t.payload)) != c.Size || crc32.Checksum(t.payload, castagnoli) != c.Crc32C {
			return refused(pb.EventResult_CODE_INCOMPLETE, "the body of %s doesn't match its length and checksum", id)
		}
		if t.s.uploads[id] != nil {
			return invalid("the body of %s comes with its acceptance, but pieces of it are stored", id)
		}
		t.putContent(keyOfPart(famContent, id, 0), t.payload, c.Crc32C)
		return nil
	}
	if refusal := t.missingPieces(id, c); refusal != nil {
		return refusal
	}
	t.removeUpload(id)
	return nil
}

// missingPieces is nil where the proposer's upload has all pieces of a content
// and no other.
func (t *tx) missingPieces(id relay.MessageID, c *pb.Content) *pb.EventResult {
	upload := t.s.uploads[id]
	if upload == nil || upload.Incarnation != t.event.Incarnation ||
		upload.Pieces != c.Pieces || upload.Bytes != c.Size || t.hasPieceFrom(id, c.Pieces) {
		return refused(pb.EventResult_CODE_INCOMPLETE, "%s has %d pieces of %d bytes, want %d of %d",
			id, upload.GetPieces(), upload.GetBytes(), c.Pieces, c.Size)
	}
	return nil
}

// hasPieceFrom reports whether a piece has this number or a higher one: as many
// pieces as there should be, none of them past the last, leave no gap.
func (t *tx) hasPieceFrom(id relay.MessageID, number uint32) bool {
	found := false
	t.failedIf(scanFrom(t.batch, keyOfPart(famPieces, id, number), after(keyOfID(famPieces, id)),
		func(_, _ []byte) error {
			found = true
			return errStop
		}))
	return found
}

// acceptanceAborted takes a message back whose client was told 451. Committed
// first, it leaves a tombstone; committed second, it deletes the message unless
// an attempt has begun or a recipient has ended: then the client's next try may
// be a duplicate.
func (t *tx) acceptanceAborted(e *pb.AcceptanceAborted) *pb.EventResult {
	id, err := relay.MessageIDFromBytes(e.MessageId)
	if err != nil {
		return invalid("abort: %v", err)
	}
	m := t.message(id)
	if m == nil {
		if !t.wasAborted(id) {
			t.addTombstone(id)
		}
		return resultOK
	}
	if m.rec.Attempted || m.rec.Open < m.rec.Recipients {
		t.countAbortedAttempts(m)
		return stale("message %s has been attempted", id)
	}
	t.deleteMessage(m)
	return resultOK
}

// countAbortedAttempts marks the recipients of an aborted message that is already on its
// way or has arrived: the client, which was told 451, sends it to them again.
func (t *tx) countAbortedAttempts(m *message) {
	var numbers []uint32
	for number := range m.rec.Recipients {
		r := t.recipient(m, number)
		if r == nil || !isOpen(r.rec.State) && r.rec.State != pb.RecipientState_RECIPIENT_STATE_DELIVERED {
			continue
		}
		r.rec.InDoubt++
		t.saveRecipient(m, r)
		numbers = append(numbers, number)
	}
	t.addHistory(m, &pb.HistoryRecord{Kind: pb.HistoryRecord_KIND_ABORTED, Recipients: numbers})
	t.saveMessage(m)
}

// deleteMessage removes every trace of a message that was never accepted.
func (t *tx) deleteMessage(m *message) {
	for number := range m.rec.Recipients {
		r := t.recipient(m, number)
		if r == nil {
			continue
		}
		t.moveRow(t.queueKey(m, number, r.rec), nil, "")
		t.moveRow(openKey(m, number, r.rec), nil, "")
		t.moveRow(leavingKey(m, number, r.rec), nil, "")
		t.addTo(t.counter('d', countedDomain(r.rec)), r.rec, ^uint64(0))
		t.addTo(t.counter('D', r.rec.Destination), r.rec, ^uint64(0))
		t.removeRecipient(m, r)
	}
	for _, share := range m.rec.Shares {
		t.addShare(m, share.Domain, ^uint64(0))
	}
	t.pruneHistory(m, math.MaxInt)
	t.removeBody(m)
	t.removeRecord(m)
}
