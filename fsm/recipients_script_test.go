package fsm

import (
	"slices"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// verified is what a call-out found out: mostly of the destination as it is.
func (g *script) verified(n *scriptNode) scriptEvent {
	domain, destination := "example.test", "dest"
	if g.pick(6) == 0 {
		domain, destination = "other.test", []string{"dest", "other"}[g.pick(2)]
	}
	e := &pb.RecipientVerified{
		LocalPart: []string{"one", "two", "Three", "three", "four", "nobody"}[g.pick(6)], Domain: domain,
		Destination: destination, Verdict: pb.Verdict(g.pick(3)), Until: g.goodUntil(), DomainUntil: g.goodUntil(),
	}
	if all := g.revisions[destination]; len(all) > 0 {
		e.Revision = all[max(0, len(all)-1-g.pick(4))]
	}
	if g.pick(3) == 0 {
		e.DomainVerdict = []pb.Verdict{pb.Verdict_VERDICT_ACCEPTS_ANY, pb.Verdict_VERDICT_SELECTIVE}[g.pick(2)]
	}
	if e.Verdict == pb.Verdict_VERDICT_INVALID {
		e.Failure = g.refusal()
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_RecipientVerified{RecipientVerified: e}}, nil)
}

func (g *script) goodUntil() int64 {
	return g.now.Add([]time.Duration{0, 3 * time.Second, 20 * time.Second, 5 * time.Minute, 96 * time.Hour}[g.pick(5)]).UnixNano()
}

func (g *script) refusal() *pb.Failure {
	phase := []string{"rcpt", "rcpt", "dot"}[g.pick(3)]
	return &pb.Failure{Cause: "rejected", Phase: phase, Code: uint32(450 + 100*g.pick(2)), Text: "no such user"}
}

func (g *script) listed(n *scriptNode) scriptEvent {
	return g.send(n, &pb.Event{By: "root", Kind: &pb.Event_RecipientsChanged{RecipientsChanged: g.list()}}, nil)
}

func (g *script) list() *pb.RecipientsChanged {
	e := &pb.RecipientsChanged{Domain: []string{"example.test", "other.test", "new.test", "*"}[g.pick(10)*4/10]}
	names := []string{"one", "two", "three", "four", "five", "Six"}
	for range g.pick(4) {
		e.Added = append(e.Added, names[g.pick(16)*len(names)/17])
	}
	for range g.pick(3) {
		if name := names[g.pick(5)]; g.pick(8) == 0 || !slices.Contains(e.Added, name) {
			e.Removed = append(e.Removed, name)
		}
	}
	return e
}
