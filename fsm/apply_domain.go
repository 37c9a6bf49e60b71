package fsm

import (
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (t *tx) domainSet(e *pb.DomainSet) *pb.EventResult {
	if refusal := t.tables.refuseDomain(e.Domain); refusal != nil {
		return refusal
	}
	name := e.Domain.Name
	if old, _ := lookup(t.tables.domains, name); e.Domain.Revision != old.GetRevision() {
		return stale("domain %s was changed meanwhile", name)
	}
	t.putDomain(e.Domain)
	t.configured("domain " + name)
	return resultOK
}

// refuseDomain says what keeps a domain from being set, nil if nothing does.
func (t *tables) refuseDomain(config *pb.DomainConfig) *pb.EventResult {
	name := config.GetName()
	if name == "" || name != relay.DomainOf("x@"+name) || !isName(name) {
		return invalid("%q is not a domain in lower case", name)
	}
	if _, ok := lookup(t.destinations, config.Destination); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND,
			"no destination %q: create it with `holdfast destination set %s --host HOST:PORT` first",
			config.Destination, config.Destination)
	}
	for _, rule := range config.SpamIf {
		if _, err := relay.ParseSpamRule(rule); err != nil {
			return invalid("%v", err)
		}
	}
	if refusal := refuseVerify(config); refusal != nil {
		return refusal
	}
	if config.SpamRetention < 0 {
		return invalid("the spam retention of %s is negative", name)
	}
	if _, ok := t.policy(config.Policy); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND,
			"no policy %q: create it with `holdfast policy set %s` first", config.Policy, config.Policy)
	}
	return nil
}

// refuseVerify refuses to verify the recipients of domains that aren't configured:
// nobody here knows them, and their servers are asked by whoever the mail goes to.
func refuseVerify(config *pb.DomainConfig) *pb.EventResult {
	switch config.Verify {
	case pb.Verify_VERIFY_UNSPECIFIED, pb.Verify_VERIFY_OFF:
		return nil
	case pb.Verify_VERIFY_CALLOUT, pb.Verify_VERIFY_LISTED:
		if config.Name != relay.DefaultRoute {
			return nil
		}
		return invalid("domain %s is the way to other domains, whose recipients nobody here knows: it verifies none", config.Name)
	}
	return invalid("domain %s: %d is no way to verify recipients that this program knows", config.Name, config.Verify)
}

func (t *tx) putDomain(given *pb.DomainConfig) {
	config := proto.CloneOf(given)
	config.Revision = t.index
	key := keyOfName(famDomains, config.Name)
	t.put(key, t.get(key), encode(config))
	t.tables.domains, _, _ = t.tables.domains.Insert([]byte(config.Name), config)
	t.staged.changes.touch(config.Destination)
}

func (t *tx) domainRemoved(e *pb.DomainRemoved) *pb.EventResult {
	if refusal := t.refuseDomainRemoval(e.Name); refusal != nil {
		return refusal
	}
	// A change of many things may name another postmaster: that is looked at as a whole.
	if postmaster := t.tables.settings.GetPostmaster(); postmaster != "" && relay.RelayDomain(postmaster) == e.Name {
		return refused(pb.EventResult_CODE_IN_USE,
			"domain %s has the postmaster, %s: `holdfast settings set --postmaster` with another address, or with \"\", comes first", e.Name, postmaster)
	}
	t.dropDomain(e.Name)
	t.configured("domain " + e.Name)
	return resultOK
}

// refuseDomainRemoval says what keeps a domain from being removed, nil if nothing
// does.
func (t *tx) refuseDomainRemoval(name string) *pb.EventResult {
	if _, ok := lookup(t.tables.domains, name); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no domain %q", name)
	}
	if c := t.counter('d', name); c.Pending+c.Held+c.Frozen > 0 {
		return refused(pb.EventResult_CODE_IN_USE,
			"domain %s has %d recipients queued: see `holdfast queue list --domain %s`",
			name, c.Pending+c.Held+c.Frozen, relay.ShellWord(name))
	}
	if c := t.counter('d', name); c.Listed > MaxRecipientsChanged {
		return refused(pb.EventResult_CODE_IN_USE,
			"domain %s has %d listed recipients: `holdfast recipient remove --all %s` comes first", name, c.Listed, name)
	}
	if token := t.tables.tokenFor(name); token != "" {
		return refused(pb.EventResult_CODE_IN_USE,
			"token %s is limited to domain %s: `holdfast token revoke %s` comes first", token, name, token)
	}
	return nil
}

func (t *tx) dropDomain(name string) {
	old, _ := lookup(t.tables.domains, name)
	t.dropListed(name)
	t.forgetVerdicts(name)
	t.remove(keyOfName(famDomains, name), encode(old))
	t.tables.domains, _, _ = t.tables.domains.Delete([]byte(name))
}
