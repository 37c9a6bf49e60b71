package fsm

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
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
	if refusal := refuseDestination(e.Destination); refusal != nil {
		return refusal
	}
	name := e.Destination.Name
	if old, _ := lookup(t.tables.destinations, name); e.Destination.Revision != old.GetConfig().GetRevision() {
		return stale("destination %q was changed meanwhile", name)
	}
	t.putDestination(e.Destination)
	t.configured("destination " + name)
	return resultOK
}

// refuseDestination says what keeps a destination from being set, nil if nothing
// does.
func refuseDestination(config *pb.DestinationConfig) *pb.EventResult {
	name := config.GetName()
	if name == "" || len(config.Hosts) == 0 && config.Mx == "" {
		return invalid("a destination needs a name and a host")
	}
	if !isName(name) {
		return invalid("the destination name %q has a zero byte", name)
	}
	return nil
}

func (t *tx) putDestination(given *pb.DestinationConfig) {
	old, _ := lookup(t.tables.destinations, given.Name)
	config, health := proto.CloneOf(given), old.GetHealth()
	config.Revision = old.GetConfig().GetRevision()
	switch {
	case health == nil:
		health = &pb.DestinationHealth{State: pb.DestinationHealth_STATE_UP, Since: t.event.Time}
	case !proto.Equal(old.Config, config):
		// Other hosts, another port: what was found out about the old ones says
		// nothing of them. Verdicts under way answer an older probe number now.
		health = proto.Clone(health).(*pb.DestinationHealth)
		health.Probes++
		if health.State != pb.DestinationHealth_STATE_UP {
			probeAnew(health, t.event.Time)
		}
	}
	config.Revision = t.index
	t.saveDestination(given.Name, old, &pb.DestinationRecord{
		Config: config, Health: health, Suspended: old.GetSuspended(), Earlier: t.earlierHosts(old, config),
	})
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
	if refusal := t.refuseDestinationRemoval(e.Name, t.tables.references()); refusal != nil {
		return refusal
	}
	t.dropDestination(e.Name)
	t.configured("destination " + e.Name)
	return resultOK
}

// refuseDestinationRemoval says what keeps a destination from being removed, nil
// if nothing does: it names the way out.
func (t *tx) refuseDestinationRemoval(name string, in references) *pb.EventResult {
	if _, ok := lookup(t.tables.destinations, name); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no destination %q", name)
	}
	if user, used := in.destinations[name]; used {
		return refused(pb.EventResult_CODE_IN_USE,
			"destination %q is used by domain %s: give it another one with `holdfast domain set %s --destination NAME` first",
			name, user.first, user.first)
	}
	if c := t.counter('D', name); c.Pending+c.Held+c.Frozen > 0 {
		return refused(pb.EventResult_CODE_IN_USE,
			"destination %q has %d recipients queued: see `holdfast queue list --destination %s`",
			name, c.Pending+c.Held+c.Frozen, name)
	}
	return nil
}

func (t *tx) dropDestination(name string) {
	old, _ := lookup(t.tables.destinations, name)
	t.remove(keyOfName(famDestinations, name), encode(old))
	t.tables.destinations, _, _ = t.tables.destinations.Delete([]byte(name))
	t.staged.changes.touch(name)
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
	if !ok || old.Health.State == pb.DestinationHealth_STATE_UP {
		return
	}
	record := proto.CloneOf(old)
	probeAnew(record.Health, t.event.Time)
	if !proto.Equal(old, record) {
		t.saveDestination(name, old, record)
	}
}

// probeAnew makes a probe due, and those after it as close to each other as at the
// beginning of the outage: who asks for one has mended something, or is about to.
func probeAnew(health *pb.DestinationHealth, now int64) {
	health.NextProbe = min(health.NextProbe, now)
	health.Failed = min(health.Failed, 1)
}
