package fsm

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (t *tx) saveDestination(name string, old, now *pb.DestinationRecord) {
	var raw []byte
	if old != nil {
		raw = encode(old)
	}
	t.put(keyOfName(famDestinations, name), raw, encode(now))
	t.tables.destinations, _, _ = t.tables.destinations.Insert([]byte(name), now)
	t.staged.changes.touch(name)
}

func (t *tx) destinationSet(e *pb.DestinationSet) *pb.EventResult {
	name := e.Destination.GetName()
	if name == "" || len(e.Destination.Hosts) == 0 && e.Destination.Mx == "" {
		return invalid("a destination needs a name and a host")
	}
	if !isName(name) {
		return invalid("the destination name %q has a zero byte", name)
	}
	old, _ := lookup(t.tables.destinations, name)
	if e.Destination.Revision != old.GetConfig().GetRevision() {
		return stale("destination %q was changed meanwhile", name)
	}
	config, health := proto.CloneOf(e.Destination), old.GetHealth()
	switch {
	case health == nil:
		health = &pb.DestinationHealth{State: pb.DestinationHealth_STATE_UP, Since: t.event.Time}
	case !proto.Equal(old.Config, config): // of one revision until here
		// Other hosts, another port: what was found out about the old ones says
		// nothing of them. Verdicts under way answer an older probe number now.
		health = proto.Clone(health).(*pb.DestinationHealth)
		health.Probes++
		if health.State != pb.DestinationHealth_STATE_UP {
			health.NextProbe = t.event.Time
		}
	}
	config.Revision = t.index
	t.saveDestination(name, old, &pb.DestinationRecord{
		Config: config, Health: health, Suspended: old.GetSuspended(), Earlier: t.earlierHosts(old, config),
	})
	return resultOK
}

// earlierHosts are the hosts to go back to: those that a change of hosts takes
// mail away from.
func (t *tx) earlierHosts(old *pb.DestinationRecord, config *pb.DestinationConfig) *pb.EarlierHosts {
	before := old.GetConfig()
	same := slices.EqualFunc(before.GetHosts(), config.Hosts, func(a, b *pb.DestinationConfig_Host) bool { return proto.Equal(a, b) })
	if before == nil || same && before.Mx == config.Mx {
		return old.GetEarlier()
	}
	return &pb.EarlierHosts{Hosts: before.Hosts, Mx: before.Mx, Until: t.event.Time}
}

func (t *tx) destinationRemoved(e *pb.DestinationRemoved) *pb.EventResult {
	old, ok := lookup(t.tables.destinations, e.Name)
	if !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no destination %q", e.Name)
	}
	for _, domain := range list(t.tables.domains) {
		if domain.Destination == e.Name {
			return refused(pb.EventResult_CODE_IN_USE,
				"destination %q is used by domain %s: give it another one with `holdfast domain set %s --destination NAME` first",
				e.Name, domain.Name, domain.Name)
		}
	}
	if c := t.counter('D', e.Name); c.Pending+c.Held+c.Frozen > 0 {
		return refused(pb.EventResult_CODE_IN_USE,
			"destination %q has %d recipients queued: see `holdfast queue list --destination %s`",
			e.Name, c.Pending+c.Held+c.Frozen, e.Name)
	}
	t.remove(keyOfName(famDestinations, e.Name), encode(old))
	t.tables.destinations, _, _ = t.tables.destinations.Delete([]byte(e.Name))
	t.staged.changes.touch(e.Name)
	return resultOK
}

// destinationFailed moves the breaker: one node's failure makes a destination
// suspect and the next node its owner; a second node's makes it down. A failure
// that answers an earlier probe than the one that is due is stale.
func (t *tx) destinationFailed(e *pb.DestinationFailed) *pb.EventResult {
	old, ok := lookup(t.tables.destinations, e.Name)
	if !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no destination %q", e.Name)
	}
	if e.Probes != old.Health.Probes || t.tables.owner(old) != t.node {
		return stale("destination %q: probe %d is not the one that is due", e.Name, e.Probes)
	}
	record := proto.Clone(old).(*pb.DestinationRecord)
	h := record.Health
	h.Probes++
	h.Failed++
	h.Rank++
	h.Failure, h.NextProbe = e.Failure, e.NextProbe
	switch {
	case h.State == pb.DestinationHealth_STATE_UP:
		h.State, h.Since, h.FirstNode, h.Failed = pb.DestinationHealth_STATE_SUSPECT, t.event.Time, t.node, 1
		// A second opinion is due at once, if there is somebody to give it.
		h.NextProbe = t.event.Time
		if len(t.tables.eligible) < 2 {
			h.State, h.NextProbe = pb.DestinationHealth_STATE_DOWN, e.NextProbe
		}
	case h.State == pb.DestinationHealth_STATE_SUSPECT && (t.node != h.FirstNode || len(t.tables.eligible) < 2):
		h.State = pb.DestinationHealth_STATE_DOWN
	}
	t.saveDestination(e.Name, old, record)
	return resultOK
}

// destinationRecovered ends an outage. The node whose probe succeeded stays the
// owner: others may still not reach it.
func (t *tx) destinationRecovered(e *pb.DestinationRecovered) *pb.EventResult {
	old, ok := lookup(t.tables.destinations, e.Name)
	if !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no destination %q", e.Name)
	}
	if e.Probes != old.Health.Probes || old.Health.State == pb.DestinationHealth_STATE_UP {
		return stale("destination %q: probe %d is not the one that is due", e.Name, e.Probes)
	}
	record := proto.Clone(old).(*pb.DestinationRecord)
	h := record.Health
	h.State, h.Since, h.RecoveredAt = pb.DestinationHealth_STATE_UP, t.event.Time, t.event.Time
	h.Probes++
	h.Failed, h.FirstNode, h.NextProbe = 0, "", 0
	t.saveDestination(e.Name, old, record)
	return resultOK
}

// destinationSuspended: claims are refused from here on. Attempts under way end
// by themselves; no clock stops.
func (t *tx) destinationSuspended(e *pb.DestinationSuspended) *pb.EventResult {
	old, ok := lookup(t.tables.destinations, e.Name)
	switch {
	case !ok:
		return refused(pb.EventResult_CODE_NOT_FOUND, "no destination %q", e.Name)
	case len(e.Reason) > MaxReason || len(e.By) > MaxReason:
		return invalid("a reason has %d bytes at most", MaxReason)
	case old.Suspended != nil:
		return stale("destination %q is suspended already, by %s", e.Name, old.Suspended.By)
	}
	record := proto.CloneOf(old)
	record.Suspended = &pb.Suspension{Since: t.event.Time, By: e.By, Reason: e.Reason}
	t.saveDestination(e.Name, old, record)
	return resultOK
}

func (t *tx) destinationResumed(e *pb.DestinationResumed) *pb.EventResult {
	old, ok := lookup(t.tables.destinations, e.Name)
	switch {
	case !ok:
		return refused(pb.EventResult_CODE_NOT_FOUND, "no destination %q", e.Name)
	case old.Suspended == nil:
		return stale("destination %q is not suspended", e.Name)
	}
	record := proto.CloneOf(old)
	record.Suspended = nil
	t.saveDestination(e.Name, old, record)
	return resultOK
}

// retryRequested makes a destination's probe due now.
func (t *tx) retryRequested(e *pb.RetryRequested) *pb.EventResult {
	if _, ok := lookup(t.tables.destinations, e.Destination); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no destination %q", e.Destination)
	}
	t.probeNow(e.Destination)
	return resultOK
}

// probeNow makes the probe of a destination that isn't up due.
func (t *tx) probeNow(name string) {
	old, ok := lookup(t.tables.destinations, name)
	if !ok || old.Health.State == pb.DestinationHealth_STATE_UP || old.Health.NextProbe <= t.event.Time {
		return
	}
	record := proto.Clone(old).(*pb.DestinationRecord)
	record.Health.NextProbe = t.event.Time
	t.saveDestination(name, old, record)
}

func (t *tx) domainSet(e *pb.DomainSet) *pb.EventResult {
	name := e.Domain.GetName()
	if name == "" || name != relay.DomainOf("x@"+name) || !isName(name) {
		return invalid("%q is not a domain in lower case", name)
	}
	if _, ok := lookup(t.tables.destinations, e.Domain.Destination); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND,
			"no destination %q: create it with `holdfast destination set %s --host HOST:PORT` first",
			e.Domain.Destination, e.Domain.Destination)
	}
	for _, rule := range e.Domain.SpamIf {
		if _, err := relay.ParseSpamRule(rule); err != nil {
			return invalid("%v", err)
		}
	}
	if e.Domain.SpamRetention < 0 {
		return invalid("the spam retention of %s is negative", name)
	}
	if _, ok := t.tables.policy(e.Domain.Policy); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND,
			"no policy %q: create it with `holdfast policy set %s` first", e.Domain.Policy, e.Domain.Policy)
	}
	old, _ := lookup(t.tables.domains, name)
	if e.Domain.Revision != old.GetRevision() {
		return stale("domain %s was changed meanwhile", name)
	}
	config := proto.CloneOf(e.Domain)
	config.Revision = t.index
	key := keyOfName(famDomains, name)
	t.put(key, t.get(key), encode(config))
	t.tables.domains, _, _ = t.tables.domains.Insert([]byte(name), config)
	t.staged.changes.touch(e.Domain.Destination)
	return resultOK
}

func (t *tx) domainRemoved(e *pb.DomainRemoved) *pb.EventResult {
	old, ok := lookup(t.tables.domains, e.Name)
	if !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no domain %q", e.Name)
	}
	if c := t.counter('d', e.Name); c.Pending+c.Held+c.Frozen > 0 {
		return refused(pb.EventResult_CODE_IN_USE,
			"domain %s has %d recipients queued: see `holdfast queue list --domain %s`",
			e.Name, c.Pending+c.Held+c.Frozen, e.Name)
	}
	if token := t.tables.tokenFor(e.Name); token != "" {
		return refused(pb.EventResult_CODE_IN_USE,
			"token %s is limited to domain %s: `holdfast token revoke %s` comes first", token, e.Name, token)
	}
	t.remove(keyOfName(famDomains, e.Name), encode(old))
	t.tables.domains, _, _ = t.tables.domains.Delete([]byte(e.Name))
	return resultOK
}
