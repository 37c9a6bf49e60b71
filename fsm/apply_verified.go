package fsm

import (
	"bytes"
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	// maxVerified is how many verdicts are kept, of recipients and of domains.
	maxVerified = 250_000
	// maxVerifiedOfDomain of them are of one domain: whoever can make up addresses that
	// it takes, by a delimiter, say, pushes out nobody else's.
	maxVerifiedOfDomain = 50_000
	// maxExpired bounds what one event removes of those that are no longer good. It
	// is more than the two that one adds.
	maxExpired = 4
	// maxGood is more than the settings allow: clocks differ.
	maxGood = 91 * 24 * time.Hour
)

// verifiedPrefix begins the keys of what is known of a domain's recipients, and is
// the key of what is known of the domain as a whole.
func verifiedPrefix(domain string) []byte {
	return appendName([]byte{byte(famVerified)}, domain)
}

func keyOfVerified(domain, localPart string) []byte {
	return append(verifiedPrefix(domain), localPart...)
}

// keyOfVerifiedUntil is a verdict's place in the order in which they go.
func keyOfVerifiedUntil(until int64, verified []byte) []byte {
	key := binary.BigEndian.AppendUint64([]byte{byte(famVerifiedUntil)}, uint64(until))
	return append(key, verified[1:]...)
}

// recipientVerified keeps what a destination said (R10). There is no other upkeep:
// each verdict that comes makes room for the next.
func (t *tx) recipientVerified(e *pb.RecipientVerified) *pb.EventResult {
	if refusal := t.refuseVerdict(e); refusal != nil {
		return refusal
	}
	if refusal := t.refuseVerdictOfOther(e); refusal != nil {
		return refusal
	}
	if t.isKnownSince(e.Domain, e.LocalPart) || e.DomainVerdict != pb.Verdict_VERDICT_UNSPECIFIED && t.isKnownSince(e.Domain, "") {
		return stale("the destination has said something of %s@%s since", e.LocalPart, e.Domain)
	}
	t.makeRoomForVerdicts()
	t.putVerdict(e)
	return resultOK
}

// isKnownSince reports whether something later is known than an event says. Which event
// comes into the log first, chance decides.
func (t *tx) isKnownSince(domain, localPart string) bool {
	known := t.known(keyOfVerified(domain, localPart))
	return known != nil && known.At > t.event.Time
}

// refuseVerdict says what is wrong with a verdict in itself, nil if nothing is.
func (t *tx) refuseVerdict(e *pb.RecipientVerified) *pb.EventResult {
	ofRecipient, ofDomain := e.Verdict != pb.Verdict_VERDICT_UNSPECIFIED, e.DomainVerdict != pb.Verdict_VERDICT_UNSPECIFIED
	switch {
	case !ofRecipient && !ofDomain:
		return invalid("a call-out at %s found nothing out", e.Domain)
	case ofRecipient && e.Verdict != pb.Verdict_VERDICT_VALID && e.Verdict != pb.Verdict_VERDICT_INVALID:
		return invalid("verdict %d is none of a recipient", e.Verdict)
	case ofDomain && e.DomainVerdict != pb.Verdict_VERDICT_ACCEPTS_ANY && e.DomainVerdict != pb.Verdict_VERDICT_SELECTIVE:
		return invalid("verdict %d is none of a domain", e.DomainVerdict)
	case ofRecipient && (e.LocalPart == "" || len(e.LocalPart) > relay.MaxPath || !isName(e.LocalPart)):
		return invalid("%q is no local part", e.LocalPart)
	case e.Verdict == pb.Verdict_VERDICT_INVALID && e.Failure == nil:
		return invalid("no refusal of %s@%s is given", e.LocalPart, e.Domain)
	case proto.Size(e.Failure) > maxOperationText:
		return invalid("the refusal of %s@%s has more than %d bytes", e.LocalPart, e.Domain, maxOperationText)
	case ofRecipient && !t.isGoodUntil(e.Until) || ofDomain && !t.isGoodUntil(e.DomainUntil):
		return invalid("the verdict on %s@%s is over already, or doesn't end", e.LocalPart, e.Domain)
	}
	return nil
}

// isGoodUntil: a negative time would be out of the order in which verdicts go.
func (t *tx) isGoodUntil(until int64) bool {
	return t.event.Time >= 0 && until > t.event.Time && until-t.event.Time <= int64(maxGood)
}

// refuseVerdictOfOther refuses what was asked of another destination than mail to
// the domain goes to now, or of the same with other hosts.
func (t *tx) refuseVerdictOfOther(e *pb.RecipientVerified) *pb.EventResult {
	domain, ok := lookup(t.tables.domains, e.Domain)
	switch {
	case !ok:
		return refused(pb.EventResult_CODE_NOT_FOUND, "no domain %q", e.Domain)
	case domain.Verify != pb.Verify_VERIFY_CALLOUT:
		return stale("domain %s has no recipients verified by call-out", e.Domain)
	case !t.tables.isPresent(e.Domain, e.Destination, e.Revision):
		return stale("mail to %s doesn't go to what was asked any more", e.Domain)
	}
	return nil
}

// isPresent reports whether mail to a domain goes to this destination as it was at
// this revision.
func (t *tables) isPresent(domain, destination string, revision uint64) bool {
	config, ok := lookup(t.domains, domain)
	if !ok || config.Destination != destination {
		return false
	}
	record, ok := lookup(t.destinations, destination)
	return ok && record.Config.GetRevision() == revision
}

// isKnown reports whether readers are told of a verdict.
func (t *tables) isKnown(domain string, record *pb.VerifiedRecord, now int64) bool {
	count, _ := lookup(t.counters, string(keyOfCounter('d', domain)))
	return !isForgotten(count, record) && t.isGood(domain, record, now)
}

// isForgotten: the verdict is on a domain that was removed since, and may be another's
// now. Its row goes when it is over: 50,000 of them are too many for one event.
func isForgotten(count *pb.CounterRecord, record *pb.VerifiedRecord) bool {
	return record.Index <= count.GetForgottenIndex()
}

// isGood reports whether a verdict counts. That a recipient exists says something of
// whose mailbox it is, and survives a change of the destination; that one doesn't,
// and what a destination does with any address, is of that destination alone: a
// mended or another one may take it. It is forgotten with any change of the domain,
// too, so that operators can have it forgotten.
func (t *tables) isGood(domain string, record *pb.VerifiedRecord, now int64) bool {
	config, ok := lookup(t.domains, domain)
	if !ok || record.Until <= now {
		return false
	}
	return record.Verdict == pb.Verdict_VERDICT_VALID ||
		record.Index > config.Revision && t.isPresent(domain, record.Destination, record.Revision)
}

// makeRoomForVerdicts removes verdicts that are no longer good, and beyond the limit
// those that will be so first: made-up addresses, which are good for hours, push out
// each other and not what is good for days.
func (t *tx) makeRoomForVerdicts() {
	first := []byte{byte(famVerifiedUntil)}
	for _, key := range t.keysOf(first, maxExpired) {
		if int64(binary.BigEndian.Uint64(key[1:])) > t.event.Time {
			break
		}
		t.forgetVerdict(key)
	}
	// What comes next has room too.
	for t.err == nil && t.digests[famVerified].rows+2 > t.s.caps.verified {
		soonest := t.keysOf(first, 1)
		if len(soonest) == 0 {
			return
		}
		t.forgetVerdict(soonest[0])
	}
}

func (t *tx) forgetVerdict(order []byte) {
	key, old := append([]byte{byte(famVerified)}, order[1+8:]...), &pb.VerifiedRecord{}
	t.removeVerdict(key, order, t.load(key, old), old)
}

// removeVerdict removes a row with its place in the order.
func (t *tx) removeVerdict(key, order, raw []byte, old *pb.VerifiedRecord) {
	t.remove(key, raw)
	t.moveRow(order, nil, "")
	if share := t.verifiedOf(key); !isForgotten(share, old) {
		share.Verified--
	}
}

// known is what is known under a verdict's key, whether or not it is still good; nil
// where nothing is.
func (t *tx) known(key []byte) *pb.VerifiedRecord {
	record := &pb.VerifiedRecord{}
	if t.load(key, record) == nil || isForgotten(t.verifiedOf(key), record) {
		return nil
	}
	return record
}

// verifiedOf counts what is known of the domain that a verdict's key is of.
func (t *tx) verifiedOf(key []byte) *pb.CounterRecord {
	domain, _, _ := bytes.Cut(key[1:], []byte{0})
	return t.counter('d', string(domain))
}

// forgetVerdicts makes nothing of all that is known of a domain: who gets it next may
// have other mailboxes, and has a share of its own.
func (t *tx) forgetVerdicts(domain string) {
	share := t.counter('d', domain)
	share.Verified, share.ForgottenIndex = 0, t.index
}

// putVerdict writes what isn't known already: of a domain that takes any recipient
// nothing is kept of single ones (R12).
func (t *tx) putVerdict(e *pb.RecipientVerified) {
	ofDomain := keyOfVerified(e.Domain, "")
	record := func(verdict pb.Verdict, until int64, failure *pb.Failure) *pb.VerifiedRecord {
		return &pb.VerifiedRecord{
			Verdict: verdict, At: t.event.Time, Until: until, Index: t.index,
			Destination: e.Destination, Revision: e.Revision, Failure: failure,
		}
	}
	if e.DomainVerdict != pb.Verdict_VERDICT_UNSPECIFIED {
		t.putVerified(ofDomain, record(e.DomainVerdict, e.DomainUntil, nil))
	}
	acceptsAny := t.acceptsAny(e.Domain)
	switch e.Verdict {
	case pb.Verdict_VERDICT_VALID:
		if !acceptsAny {
			t.putVerified(keyOfVerified(e.Domain, e.LocalPart), record(e.Verdict, e.Until, nil))
		}
	case pb.Verdict_VERDICT_INVALID:
		if acceptsAny && e.DomainVerdict == pb.Verdict_VERDICT_UNSPECIFIED {
			// A destination that refuses this one doesn't take any.
			t.dropVerified(ofDomain)
			acceptsAny = false
		}
		if !acceptsAny {
			t.putVerified(keyOfVerified(e.Domain, e.LocalPart), record(e.Verdict, e.Until, e.Failure))
		}
	}
}

// acceptsAny reports whether the domain's destination is known to take any recipient.
func (t *tx) acceptsAny(domain string) bool {
	record := t.known(keyOfVerified(domain, ""))
	return record != nil && record.Verdict == pb.Verdict_VERDICT_ACCEPTS_ANY && t.tables.isGood(domain, record, t.event.Time)
}

// putVerified leaves out what is new where the domain has its share, and what comes
// in the entry that removed its predecessor: it was asked of that one.
func (t *tx) putVerified(key []byte, record *pb.VerifiedRecord) {
	old, share := &pb.VerifiedRecord{}, t.verifiedOf(key)
	raw := t.load(key, old)
	if raw == nil || isForgotten(share, old) {
		if share.Verified >= t.s.caps.verifiedOfDomain || isForgotten(share, record) {
			return
		}
		share.Verified++
	}
	var order []byte
	if raw != nil {
		order = keyOfVerifiedUntil(old.Until, key)
	}
	t.put(key, raw, encode(record))
	t.moveRow(order, keyOfVerifiedUntil(record.Until, key), "")
}

func (t *tx) dropVerified(key []byte) {
	old := &pb.VerifiedRecord{}
	if raw := t.load(key, old); raw != nil {
		t.removeVerdict(key, keyOfVerifiedUntil(old.Until, key), raw, old)
	}
}

// keepValid lets a delivery count as a call-out: it shows that the recipient is still
// there (R10), also of one that was refused before the attempt began. One that was
// lately known so needs no new row.
func (t *tx) keepValid(r *recipient) {
	key, record := t.knownRow(r)
	good := int64(SettingsOf(t.tables.settings).VerifyValid)
	switch {
	case record == nil || t.acceptsAny(r.rec.Domain):
	case record.Verdict == pb.Verdict_VERDICT_INVALID && r.rec.ClaimedIndex > record.Index:
		t.dropVerified(key)
	case record.Verdict == pb.Verdict_VERDICT_VALID && record.Until-t.event.Time < good/2:
		record.At, record.Until, record.Index = t.event.Time, t.event.Time+good, t.index
		t.putVerified(key, record)
	}
}

// endValid lets a refusal for good count as a call-out: the next message is refused
// at RCPT, and makes no report (R14). What was tried before the destination changed
// says nothing of it as it is now, and what was said before a call-out is over.
func (t *tx) endValid(r *recipient, failure *pb.Failure) {
	destination, ok := lookup(t.tables.destinations, r.rec.Destination)
	if failure.GetPhase() != string(relay.PhaseRcpt) || !relay.RefusesRecipient(int(failure.Code), failure.Enhanced) ||
		!ok || r.rec.ClaimedIndex <= destination.Config.GetRevision() ||
		!t.tables.isPresent(r.rec.Domain, r.rec.Destination, destination.Config.GetRevision()) {
		return
	}
	key, record := t.knownRow(r)
	if key == nil {
		return
	}
	if t.acceptsAny(r.rec.Domain) {
		// One that refuses this recipient doesn't take any.
		ofDomain, known := keyOfVerified(r.rec.Domain, ""), &pb.VerifiedRecord{}
		if t.load(ofDomain, known); known.At <= failure.At {
			t.dropVerified(ofDomain)
		}
	}
	if record == nil || record.Verdict != pb.Verdict_VERDICT_VALID || record.At > failure.At {
		return
	}
	t.putVerified(key, &pb.VerifiedRecord{
		Verdict: pb.Verdict_VERDICT_INVALID, At: t.event.Time, Index: t.index,
		Until:       t.event.Time + int64(SettingsOf(t.tables.settings).VerifyInvalid),
		Destination: r.rec.Destination, Revision: destination.Config.GetRevision(), Failure: failure,
	})
}

// knownRow is what is known of a recipient, whether or not it is still good; nil where
// nothing is, without a key where its domain doesn't ask, or would ask another
// destination than the recipient was redirected to, or was queued for.
func (t *tx) knownRow(r *recipient) (key []byte, record *pb.VerifiedRecord) {
	config, ok := lookup(t.tables.domains, r.rec.Domain)
	if !ok || config.Verify != pb.Verify_VERIFY_CALLOUT || config.Destination != r.rec.Destination || !t.isGoodUntil(t.event.Time+int64(maxGood)) {
		return nil, nil
	}
	localPart, _, err := relay.SplitAddress(r.rec.Recipient.GetAddress())
	if err != nil {
		return nil, nil
	}
	key = keyOfVerified(r.rec.Domain, localPart)
	return key, t.known(key)
}
