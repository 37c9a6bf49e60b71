package fsm

import (
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Limits of one ConfigurationChange. It is the one event that an operator sends and
// that touches more than 1,000 records, since it must hold at one index:
// docs/decisions/0020 has what that costs.
const (
	MaxConfigured        = 50_000
	MaxConfigurationSize = 16 << 20
)

// configurationApplied checks the whole change against the state as it would
// be, and only then writes it.
func (t *tx) configurationApplied(e *pb.ConfigurationApplied) *pb.EventResult {
	change, refusal := t.takeChange(e)
	switch {
	case refusal != nil:
		return refusal
	case e.Configured != t.applied.Configured:
		return stale("the configuration was changed meanwhile")
	}
	next := t.tables
	settings, refusal := t.refuseChange(&next, change)
	if refusal != nil {
		return refusal
	}
	t.putChange(change, settings)
	t.configured("")
	return resultOK
}

// takeChange reads the content and removes it: whatever comes next, nobody asks
// for it again. What is too large to be read stays, and so do pieces of which some
// are missing: who sent them abandons them.
func (t *tx) takeChange(e *pb.ConfigurationApplied) (*pb.ConfigurationChange, *pb.EventResult) {
	id, err := relay.MessageIDFromBytes(e.ContentId)
	content := e.Content
	switch {
	case err != nil:
		return nil, invalid("configuration: %v", err)
	case content.GetSize() > MaxConfigurationSize:
		return nil, invalid("configuration %s has %d bytes, %d at most", id, content.GetSize(), MaxConfigurationSize)
	}
	encoded := t.payload
	if content.GetPieces() > 0 {
		if refusal := t.missingPieces(id, content); refusal != nil {
			return nil, refusal
		}
		encoded = make([]byte, 0, content.Size)
		for piece := range content.Pieces {
			encoded = append(encoded, t.get(keyOfPart(famContent, id, piece))...)
			t.removePiece(id, piece)
		}
		t.removeUpload(id)
	}
	if uint64(len(encoded)) != content.GetSize() || crc32.Checksum(encoded, castagnoli) != content.GetCrc32C() {
		return nil, refused(pb.EventResult_CODE_INCOMPLETE, "configuration %s doesn't match its length and checksum", id)
	}
	change := &pb.ConfigurationChange{}
	if err := proto.Unmarshal(encoded, change); err != nil {
		// The library's words differ from build to build, and results are state.
		t.s.log.Error("configuration can't be read", "id", id.String(), "index", t.index, "error", err)
		return nil, invalid("configuration %s can't be read: this node's log says why", id)
	}
	if n, most := uint64(sizeOfChange(change)), t.s.caps.configured; n > most {
		return nil, invalid("configuration %s changes %d records, %d at most", id, n, most)
	}
	return change, nil
}

func sizeOfChange(c *pb.ConfigurationChange) int {
	return len(c.Destinations) + len(c.Domains) + len(c.Policies) +
		len(c.RemovedDestinations) + len(c.RemovedDomains) + len(c.RemovedPolicies) + sizeOfLists(c.Recipients)
}

func sizeOfLists(changes []*pb.RecipientsChanged) int {
	n := 0
	for _, c := range changes {
		n += 1 + len(c.Added) + len(c.Removed)
	}
	return n
}

// refuseChange says what keeps a change from being carried out, nil if nothing
// does. It makes next the tables as they would be, and returns the settings.
func (t *tx) refuseChange(next *tables, change *pb.ConfigurationChange) (*pb.Settings, *pb.EventResult) {
	if refusal := refuseTwice(change); refusal != nil {
		return nil, refusal
	}
	for _, config := range change.Policies {
		if refusal := refusePolicy(config); refusal != nil {
			return nil, refusal
		}
		next.policies, _, _ = next.policies.Insert([]byte(config.Name), config)
	}
	for _, config := range change.Destinations {
		if refusal := refuseDestination(config); refusal != nil {
			return nil, refusal
		}
		next.destinations, _, _ = next.destinations.Insert([]byte(config.Name), &pb.DestinationRecord{Config: config})
	}
	size := uint64(sizeOfChange(change))
	for _, name := range change.RemovedDomains {
		if refusal := t.refuseDomainRemoval(name); refusal != nil {
			return nil, refusal
		}
		size += t.counter('d', name).Listed
		next.domains, _, _ = next.domains.Delete([]byte(name))
	}
	if most := t.s.caps.configured; size > most {
		return nil, invalid("the configuration changes %d records with the listed recipients of the domains that it removes, %d at most", size, most)
	}
	for _, config := range change.Domains {
		if refusal := next.refuseDomain(config); refusal != nil {
			return nil, refusal
		}
		next.domains, _, _ = next.domains.Insert([]byte(config.Name), config)
	}
	for _, list := range change.Recipients {
		if refusal := t.refuseRecipients(next, list); refusal != nil {
			return nil, refusal
		}
	}
	if refusal := t.refuseRemovals(next.references(), change); refusal != nil {
		return nil, refusal
	}
	return next.mergedSettings(change.Settings)
}

func (t *tx) refuseRemovals(in references, change *pb.ConfigurationChange) *pb.EventResult {
	for _, name := range change.RemovedDestinations {
		if refusal := t.refuseDestinationRemoval(name, in); refusal != nil {
			return refusal
		}
	}
	for _, name := range change.RemovedPolicies {
		if refusal := t.refusePolicyRemoval(name, in); refusal != nil {
			return refusal
		}
	}
	return nil
}

// refuseTwice refuses a change that names anything twice: which of the two counts
// would be left to an order that nobody sees.
func refuseTwice(change *pb.ConfigurationChange) *pb.EventResult {
	seen := make(map[string]bool)
	named := func(kind, name string) *pb.EventResult {
		subject := kind + " " + name
		if seen[subject] {
			return invalid("%s is in the change twice", subject)
		}
		seen[subject] = true
		return nil
	}
	for _, list := range []struct {
		kind  string
		names []string
	}{
		{"destination", append(namesOf(change.Destinations), change.RemovedDestinations...)},
		{"domain", append(namesOf(change.Domains), change.RemovedDomains...)},
		{"list of recipients", domainsOf(change.Recipients)},
		{"policy", append(namesOf(change.Policies), change.RemovedPolicies...)},
	} {
		for _, name := range list.names {
			if refusal := named(list.kind, name); refusal != nil {
				return refusal
			}
		}
	}
	return nil
}

func domainsOf(changes []*pb.RecipientsChanged) []string {
	names := make([]string, len(changes))
	for i, change := range changes {
		names[i] = change.Domain
	}
	return names
}

func namesOf[T interface{ GetName() string }](configs []T) []string {
	names := make([]string, len(configs))
	for i, config := range configs {
		names[i] = config.GetName()
	}
	return names
}

// putChange writes a change that was checked.
func (t *tx) putChange(change *pb.ConfigurationChange, settings *pb.Settings) {
	for _, config := range change.Policies {
		t.putPolicy(config)
	}
	for _, config := range change.Destinations {
		t.putDestination(config)
	}
	for _, config := range change.Domains {
		t.putDomain(config)
	}
	for _, list := range change.Recipients {
		t.putRecipients(list)
	}
	for _, name := range change.RemovedDomains {
		t.dropDomain(name)
	}
	for _, name := range change.RemovedDestinations {
		t.dropDestination(name)
	}
	for _, name := range change.RemovedPolicies {
		t.dropPolicy(name)
	}
	if change.Settings != nil {
		t.putSettings(settings)
	}
}
