package fsm

import (
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// course is a whole story in one entry. What is picked event by event is refused
// too often: claims that hold, and what needs one, would hardly occur.
func (g *script) course() []scriptEvent {
	n := g.nodes[g.pick(2)]
	if n.incarnation == 0 || g.pick(3) == 0 {
		return g.removals(n)
	}
	accepting := g.accept(n)
	e := accepting.event.GetMessageAccepted()
	e.Recipients = e.Recipients[:1]
	e.Recipients[0].Spam = g.pick(2) == 0
	id := g.ids[len(g.ids)-1]
	if g.pick(5) == 0 {
		deleting := &pb.Operation{Kind: pb.Operation_KIND_DELETE, By: "ann", UndoFor: int64(time.Minute)}
		purging := g.send(n, &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}}}}}, nil)
		purging.event.Time = g.now.Add(time.Duration(g.pick(3)) * time.Minute).UnixNano()
		return []scriptEvent{accepting, g.send(n, operated(deleting, id, 0), nil), purging}
	}
	g.attempts++
	g.claims = append(g.claims, &scriptClaim{ref: ref(n.incarnation, g.attempts), id: id, recipients: []uint32{0}})
	claiming := g.send(n, claimOf(g.attempts, id, 0), nil)
	claiming.event.GetAttemptStarted().Claims[0].Probe = g.pick(2) == 0
	g.latest = true
	defer func() { g.latest = false }()
	outcome := []func(*scriptNode) scriptEvent{g.delivered, g.failed, g.bounced, g.frozen, g.dropped, g.released}[g.pick(6)](n)
	events := []scriptEvent{accepting, claiming, outcome}
	if localPart, _, err := relay.SplitAddress(e.Recipients[0].Address); err == nil && g.pick(3) == 0 {
		verified := g.verified(n)
		verified.event.GetRecipientVerified().LocalPart = localPart
		events = append([]scriptEvent{verified}, events...)
	}
	if outcome.event.GetFrozen() != nil && g.pick(2) == 0 {
		events = append(events, g.frozenExpired(n, []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}}))
	}
	return events
}

// removals sets something up and takes it away again, or puts right what stands
// in the way of all others.
func (g *script) removals(n *scriptNode) []scriptEvent {
	remove := func(set, removed *pb.Event) []scriptEvent {
		return []scriptEvent{g.send(n, set, nil), g.send(n, removed, nil)}
	}
	switch g.pick(10) {
	case 0:
		return remove(destinationSet("spare"), &pb.Event{Kind: &pb.Event_DestinationRemoved{DestinationRemoved: &pb.DestinationRemoved{Name: "spare"}}})
	case 1:
		return remove(domainSet("spare.test", "dest"), &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "spare.test"}}})
	case 2:
		return remove(policySet("spare", time.Hour), policyRemoved("spare"))
	case 3:
		if g.pick(2) == 0 {
			return remove(tokenSet("spare", "carl", pb.Role_ROLE_VIEWER), tokenRevoked("spare"))
		}
		return remove(accountSet("spare", "$2a$x", 0), accountRemoved("spare", g.index+1+uint64(g.pick(2))))
	case 4: // made from the configuration that the event before it leaves
		settings := &pb.Settings{WarnPending: proto.Uint64(uint64(g.pick(3)))}
		applied, payload := configurationApplied(g.newID(), g.index+1+uint64(g.pick(2)), &pb.ConfigurationChange{Settings: settings})
		return []scriptEvent{g.send(n, settingsChanged(settings), nil), g.send(n, applied, payload)}
	case 5:
		drill := &pb.DrillStarted{Id: "spare", Fault: pb.Fault_FAULT_PAUSE, Node: n.name, Duration: 1, Until: g.now.Add(time.Second).UnixNano()}
		ended := &pb.Event{Kind: &pb.Event_DrillEnded{DrillEnded: &pb.DrillEnded{Id: drill.Id}}}
		consenting := g.send(n, settingsChanged(&pb.Settings{DrillConsent: proto.Bool(true)}), nil)
		return append([]scriptEvent{consenting}, remove(&pb.Event{Kind: &pb.Event_DrillStarted{DrillStarted: drill}}, ended)...)
	}
	return g.recoveries(n)
}

// recoveries let something fail, or stand in the way of all others, and put it right.
func (g *script) recoveries(n *scriptNode) []scriptEvent {
	switch g.pick(4) {
	case 0:
		recovered := &pb.Event{Kind: &pb.Event_DestinationRecovered{DestinationRecovered: &pb.DestinationRecovered{Name: "spare", Probes: 1}}}
		removed := &pb.Event{Kind: &pb.Event_DestinationRemoved{DestinationRemoved: &pb.DestinationRemoved{Name: "spare"}}}
		var events []scriptEvent
		for _, event := range []*pb.Event{destinationSet("spare"), destinationFailed("spare", 0, g.now), recovered, removed} {
			events = append(events, g.send(n, event, nil))
		}
		return events
	case 1:
		about := g.nodes[2]
		return []scriptEvent{g.up(about), g.leaders(&pb.Event{Kind: &pb.Event_NodeEligible{NodeEligible: &pb.NodeEligible{
			Node: about.name, Incarnation: about.incarnation,
		}}})}
	case 2:
		return []scriptEvent{g.send(n, suspension("dest", "moving"), nil), g.send(n, resumption("dest"), nil)}
	}
	return []scriptEvent{g.send(n, resumption("dest"), nil)}
}

// frozenExpired now and then comes a day early.
func (g *script) frozenExpired(n *scriptNode, targets []*pb.Target) scriptEvent {
	before := g.now.Add(time.Duration(g.pick(20)-5) * time.Second)
	e := g.send(n, &pb.Event{Kind: &pb.Event_FrozenExpired{FrozenExpired: &pb.FrozenExpired{
		Targets: targets, Before: before.UnixNano(),
	}}}, nil)
	e.event.Time = before.Add(time.Duration(29+g.pick(3)) * 24 * time.Hour).UnixNano()
	return e
}

// service takes nodes out of service, puts them back, and forgets them.
func (g *script) service(n *scriptNode) scriptEvent {
	about := g.nodes[g.pick(len(g.nodes))]
	switch g.pick(5) {
	case 0, 1:
		return g.send(n, &pb.Event{Kind: &pb.Event_NodeDraining{NodeDraining: &pb.NodeDraining{
			Node: about.name, UntilUp: g.pick(2) == 0,
		}}}, nil)
	case 2, 3:
		return g.send(n, &pb.Event{Kind: &pb.Event_NodeResumed{NodeResumed: &pb.NodeResumed{Node: about.name}}}, nil)
	}
	removed := &pb.NodeRemoved{Node: about.name, Incarnation: about.incarnation}
	if about.incarnation != 0 && g.pick(4) > 0 {
		about.incarnation, about.active = 0, false
	}
	return g.leaders(&pb.Event{Kind: &pb.Event_NodeRemoved{NodeRemoved: removed}})
}
