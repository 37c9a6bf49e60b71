package fsm

import (
	pb "holdfast/proto/holdfast/v1"
)

func (g *script) configuration(n *scriptNode) scriptEvent {
	switch g.pick(11) {
	case 0:
		return g.send(n, &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "other.test"}}}, nil)
	case 1:
		return g.send(n, &pb.Event{Kind: &pb.Event_DestinationRemoved{DestinationRemoved: &pb.DestinationRemoved{Name: "other"}}}, nil)
	case 2:
		event := destinationSet("other")
		event.GetDestinationSet().Destination.Revision = g.revision("other")
		return g.send(n, event, nil)
	case 3, 4:
		return g.policy(n)
	case 5:
		return g.send(n, &pb.Event{Kind: &pb.Event_DestinationSuspended{DestinationSuspended: &pb.DestinationSuspended{
			Name: []string{"dest", "other"}[g.pick(2)], By: "root", Reason: "moving",
		}}}, nil)
	case 6:
		return g.send(n, &pb.Event{Kind: &pb.Event_DestinationResumed{DestinationResumed: &pb.DestinationResumed{
			Name: []string{"dest", "other"}[g.pick(2)], By: "root",
		}}}, nil)
	case 9, 10:
		return g.token(n)
	}
	event := domainSet("other.test", []string{"dest", "other"}[g.pick(2)])
	event.GetDomainSet().Domain.Revision = g.revision("other.test")
	event.GetDomainSet().Domain.Policy = []string{"five-day", "own", "month", "nobody's"}[g.pick(4)]
	return g.send(n, event, nil)
}

// configured is the name that an event sets.
func configured(event *pb.Event) string {
	if e := event.GetDestinationSet(); e != nil {
		return e.Destination.Name
	}
	if e := event.GetPolicySet(); e != nil {
		return e.Policy.Name
	}
	return event.GetDomainSet().GetDomain().GetName()
}

// revision is one of lately: the present one, an earlier one, or that of what
// doesn't exist.
func (g *script) revision(name string) uint64 {
	all := g.revisions[name]
	back := g.pick(4)
	if back >= len(all) || back == 3 {
		return 0
	}
	return all[len(all)-1-back]
}

func (g *script) token(n *scriptNode) scriptEvent {
	id := []string{"one", "two", "three"}[g.pick(3)]
	if g.pick(3) == 0 {
		return g.send(n, tokenRevoked(id), nil)
	}
	domains := [][]string{nil, {"example.test"}, {"example.test", "other.test"}, {"unknown.test"}, {"b", "a"}}[g.pick(5)]
	event := tokenSet(id, []string{"ann", "bob"}[g.pick(2)], pb.Role(g.pick(4)), domains...)
	if g.pick(2) == 0 {
		event.GetTokenSet().Token.ExpiresAt = g.now.UnixNano()
	}
	return g.send(n, event, nil)
}
