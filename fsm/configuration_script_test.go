package fsm

import (
	"hash/crc32"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (g *script) configuration(n *scriptNode) scriptEvent {
	switch g.pick(15) {
	case 0:
		return g.send(n, &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: []string{"other.test", relay.DefaultRoute}[g.index%2]}}}, nil)
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
	case 6, 14: // or it would be suspended nearly always
		return g.send(n, &pb.Event{Kind: &pb.Event_DestinationResumed{DestinationResumed: &pb.DestinationResumed{
			Name: []string{"dest", "other"}[g.pick(2)], By: "root",
		}}}, nil)
	case 11:
		return g.token(n)
	case 12:
		return g.account(n)
	case 7, 8, 9:
		return g.configurationApplied(n)
	}
	name := []string{"other.test", relay.DefaultRoute}[g.index%2]
	event := domainSet(name, []string{"dest", "other"}[g.pick(2)])
	event.GetDomainSet().Domain.Revision = g.revision(name)
	event.GetDomainSet().Domain.Policy = []string{"five-day", "own", "month", "nobody's"}[g.pick(4)]
	event.GetDomainSet().Domain.Verify = pb.Verify(g.pick(4))
	return g.send(n, event, nil)
}

// configurationApplied changes several things at once, in the payload or in the
// pieces of an upload that was begun for something else.
func (g *script) configurationApplied(n *scriptNode) scriptEvent {
	change := &pb.ConfigurationChange{}
	for _, name := range []string{"dest", "other", "new"} {
		if g.pick(3) == 0 {
			change.Destinations = append(change.Destinations, destinationSet(name).GetDestinationSet().Destination)
		} else if g.pick(5) == 0 {
			change.RemovedDestinations = append(change.RemovedDestinations, name)
		}
	}
	for _, name := range []string{"other.test", "new.test"} {
		if g.pick(2) == 0 {
			domain := domainSet(name, []string{"dest", "other", "new"}[g.pick(3)]).GetDomainSet().Domain
			domain.Policy = []string{"five-day", "own"}[g.pick(2)]
			domain.Verify = pb.Verify(g.pick(4))
			change.Domains = append(change.Domains, domain)
		} else if g.pick(5) == 0 {
			change.RemovedDomains = append(change.RemovedDomains, name)
		}
	}
	switch g.pick(4) {
	case 0:
		change.Policies = append(change.Policies, policySet("own", time.Duration(1+g.pick(9))*time.Hour).GetPolicySet().Policy)
	case 1:
		change.RemovedPolicies = append(change.RemovedPolicies, "own")
	case 2:
		change.Settings = &pb.Settings{WarnPending: proto.Uint64(uint64(g.pick(3)))}
		if g.index%2 == 0 {
			change.Settings.RelayNetworks = &pb.RelayNetworks{Networks: []string{"192.0.2.1", "2001:db8::/32", "::/0"}[:g.index/2%4]}
		}
	}
	if g.pick(2) == 0 {
		change.Recipients = append(change.Recipients, g.list())
	}
	configured := uint64(0)
	if len(g.configured) > 0 {
		configured = g.configured[max(0, len(g.configured)-1-g.pick(2))]
	}
	id := g.id()
	event, payload := configurationApplied(id, configured, change)
	event.By = []string{"", "root", "somebody else"}[g.pick(3)]
	if g.pick(5) == 0 {
		u := g.upload()
		event.GetConfigurationApplied().ContentId = u.id[:]
		event.GetConfigurationApplied().Content.Pieces = uint32(len(u.parts))
	}
	return g.send(n, event, payload)
}

// configurationApplied is a change that fits into the event.
func configurationApplied(id relay.MessageID, configured uint64, change *pb.ConfigurationChange) (*pb.Event, []byte) {
	payload := encode(change)
	return &pb.Event{Kind: &pb.Event_ConfigurationApplied{ConfigurationApplied: &pb.ConfigurationApplied{
		ContentId: id[:], Configured: configured,
		Content: &pb.Content{Size: uint64(len(payload)), Crc32C: crc32.Checksum(payload, castagnoli)},
	}}}, payload
}

// noteConfigured remembers what an entry may have set, for later revisions.
func (g *script) noteConfigured(event *pb.Event, payload []byte) {
	var names []string
	switch kind := event.Kind.(type) {
	case *pb.Event_DestinationSet:
		names = []string{kind.DestinationSet.Destination.Name}
	case *pb.Event_DomainSet:
		names = []string{kind.DomainSet.Domain.Name}
	case *pb.Event_PolicySet:
		names = []string{kind.PolicySet.Policy.Name}
	case *pb.Event_ConfigurationApplied:
		change := &pb.ConfigurationChange{}
		if err := proto.Unmarshal(payload, change); err != nil {
			g.t.Fatalf("change: %v", err)
		}
		names = slices.Concat(namesOf(change.Destinations), namesOf(change.Domains), namesOf(change.Policies))
	case *pb.Event_DestinationRemoved, *pb.Event_DomainRemoved, *pb.Event_PolicyRemoved, *pb.Event_SettingsChanged, *pb.Event_RecipientsChanged:
	case *pb.Event_AccountSet:
		name := "account " + kind.AccountSet.Name
		g.revisions[name] = append(g.revisions[name], g.index)
		return
	default:
		return
	}
	g.configured = append(g.configured, g.index)
	for _, name := range names {
		g.revisions[name] = append(g.revisions[name], g.index)
	}
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

// settings changes one, now and then to what is out of range.
func (g *script) settings(n *scriptNode) scriptEvent {
	changed := &pb.Settings{}
	switch g.pick(6) {
	case 4:
		changed.VerifyInvalid = proto.Int64(int64(g.pick(4)) * int64(time.Minute))
	case 0:
		changed.LogRetention = proto.Int64(int64(time.Duration(g.pick(3)) * 24 * time.Hour))
	case 1:
		changed.MaxMessageSize = proto.Int64(int64(1<<20) << g.pick(12))
	case 2:
		changed.WarnPending = proto.Uint64(uint64(g.pick(3)))
	case 3:
		changed.Postmaster = proto.String([]string{"", "hostmaster@example.test", "nobody"}[g.pick(3)])
	default:
		changed.DrillConsent = proto.Bool(g.pick(2) == 0)
	}
	return g.send(n, settingsChanged(changed), nil)
}

func settingsChanged(settings *pb.Settings) *pb.Event {
	return &pb.Event{Kind: &pb.Event_SettingsChanged{SettingsChanged: &pb.SettingsChanged{Settings: settings}}}
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

func (g *script) account(n *scriptNode) scriptEvent {
	name := []string{"app", "ann@example.test", "Ann"}[g.pick(3)]
	revision := g.revision("account " + name)
	if g.pick(4) == 0 {
		return g.send(n, accountRemoved(name, revision), nil)
	}
	return g.send(n, accountSet(name, []string{"$2a$x", "$2a$y", ""}[g.pick(3)], revision), nil)
}
