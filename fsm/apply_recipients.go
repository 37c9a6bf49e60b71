package fsm

import (
	"strings"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// MaxRecipientsChanged is how many listed recipients one event changes.
const MaxRecipientsChanged = 1_000

// MaxListed is how many recipients a domain may list.
const MaxListed = 100_000

// listedPrefix begins the keys of a domain's listed recipients.
func listedPrefix(domain string) []byte {
	return appendName([]byte{byte(famListed)}, domain)
}

func keyOfListed(domain, localPart string) []byte {
	return append(listedPrefix(domain), localPart...)
}

// recipientsChanged changes a domain's list (R13). Its result says how many
// recipients weren't as it wants them.
func (t *tx) recipientsChanged(e *pb.RecipientsChanged) *pb.EventResult {
	if n := len(e.Added) + len(e.Removed); n > MaxRecipientsChanged {
		return invalid("a change of %d listed recipients, %d at most", n, MaxRecipientsChanged)
	}
	if refusal := t.refuseRecipients(&t.tables, e); refusal != nil {
		return refusal
	}
	changed := t.putRecipients(e)
	if changed > 0 {
		t.configured("recipients " + e.Domain)
	}
	return &pb.EventResult{Code: pb.EventResult_CODE_OK, Changed: uint32(changed)}
}

// refuseRecipients says what keeps the list of a domain from being changed, nil if
// nothing does.
func (t *tx) refuseRecipients(in *tables, e *pb.RecipientsChanged) *pb.EventResult {
	if refusal := in.refuseList(e.Domain); refusal != nil {
		return refusal
	}
	if len(t.event.By) > maxTokenMaker {
		return invalid("who changes the recipients of %s is longer than %d bytes", e.Domain, maxTokenMaker)
	}
	adding := make(map[string]bool, len(e.Added))
	for _, name := range e.Added {
		if !isListable(name) {
			return invalid("%q is no local part in lower case", name)
		}
		adding[name] = true
	}
	for _, name := range e.Removed {
		if adding[name] {
			return invalid("%s@%s is to be listed and not to be listed", name, e.Domain)
		}
	}
	added, removed := t.changedRecipients(e)
	listed := t.counter('d', e.Domain).Listed + uint64(len(added)) - uint64(len(removed))
	if most := t.s.caps.listed; len(added) > 0 && listed > most {
		return refused(pb.EventResult_CODE_IN_USE,
			"domain %s would have %d listed recipients, %d at most: with `holdfast domain set %s --verify callout` its destination is asked for them",
			e.Domain, listed, most, e.Domain)
	}
	return nil
}

// refuseList says why a domain can't list recipients, nil where it can.
func (t *tables) refuseList(domain string) *pb.EventResult {
	if _, ok := lookup(t.domains, domain); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no domain %q", domain)
	}
	if domain == relay.DefaultRoute {
		return invalid("domain %s lists no recipients: it is the way to other domains", domain)
	}
	return nil
}

// isListable: Unicode's tables differ between versions of Go, so that Apply looks at
// the case of ASCII only. Who proposes folds the rest.
func isListable(localPart string) bool {
	return localPart != "" && len(localPart) <= relay.MaxPath && isName(localPart) &&
		!strings.ContainsAny(localPart, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

// changedRecipients are those that a change adds and that aren't listed, and those
// that it removes and that are.
func (t *tx) changedRecipients(e *pb.RecipientsChanged) (added, removed []string) {
	pick := func(names []string, listed bool) []string {
		var picked []string
		seen := make(map[string]bool, len(names))
		for _, name := range names {
			if !seen[name] && listed == (t.get(keyOfListed(e.Domain, name)) != nil) {
				picked = append(picked, name)
			}
			seen[name] = true
		}
		return picked
	}
	return pick(e.Added, false), pick(e.Removed, true)
}

// putRecipients writes a change that was checked, and returns how many it changed.
func (t *tx) putRecipients(e *pb.RecipientsChanged) int {
	added, removed := t.changedRecipients(e)
	record := encode(&pb.ListedRecord{AddedAt: t.event.Time, AddedBy: t.event.By})
	for _, name := range added {
		t.put(keyOfListed(e.Domain, name), nil, record)
	}
	for _, name := range removed {
		key := keyOfListed(e.Domain, name)
		t.remove(key, t.get(key))
	}
	changed := len(added) + len(removed)
	if changed > 0 {
		t.countListed(e.Domain, uint64(len(added))-uint64(len(removed)))
	}
	return changed
}

// dropListed removes the list of a domain that goes.
func (t *tx) dropListed(domain string) {
	keys := t.keysOf(listedPrefix(domain), MaxRecipientsChanged)
	for _, key := range keys {
		t.remove(key, t.get(key))
	}
	if len(keys) > 0 {
		t.countListed(domain, -uint64(len(keys)))
	}
}

// countListed adds n, which may be negative, to what a domain lists.
func (t *tx) countListed(domain string, n uint64) {
	c := t.counter('d', domain)
	c.Listed += n
	c.ListedIndex = t.index
}
