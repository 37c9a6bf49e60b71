package fsm

import (
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Operations of operators, as the scripts write them.

func (g *script) operation() *pb.Operation {
	op := &pb.Operation{Kind: pb.Operation_Kind(1 + g.pick(8)), By: "local user root", Reason: "test"}
	if g.pick(3) == 0 {
		op.Domains = []string{"example.test"}
	}
	switch op.Kind {
	case pb.Operation_KIND_REDIRECT:
		if g.pick(2) == 0 {
			op.Destination = []string{"dest", "other", "nowhere"}[g.pick(3)]
		} else {
			op.Address = []string{"new@example.test", "one@other.test", "x@unknown.test"}[g.pick(3)]
		}
	case pb.Operation_KIND_DELETE:
		op.UndoFor = int64(time.Duration(g.pick(20)-2) * time.Second)
	}
	return op
}

func (g *script) targets() []*pb.Target {
	var targets []*pb.Target
	for range 1 + g.pick(3) {
		id := g.id()
		targets = append(targets, &pb.Target{MessageId: id[:], Recipients: g.numbers()})
	}
	return targets
}

func (g *script) operated(n *scriptNode) scriptEvent {
	return g.send(n, &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
		Operation: g.operation(), Targets: g.targets(),
	}}}, nil)
}

func (g *script) left(n *scriptNode) scriptEvent {
	if g.pick(2) == 0 {
		e := g.send(n, &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: g.targets()}}}, nil)
		e.event.Time = g.now.Add(time.Duration(g.pick(2)) * time.Minute).UnixNano()
		return e
	}
	return g.frozenExpired(n, g.targets())
}

// restored is a piece of what a restore or a recovery writes, here into a log
// that goes on.
func (g *script) restored() scriptEvent {
	if g.pick(8) == 0 {
		return g.leaders(&pb.Event{Kind: &pb.Event_ClusterCreated{ClusterCreated: &pb.ClusterCreated{ClusterId: "first"}}})
	}
	e := &pb.Restored{Targets: g.targets(), EndsBulks: g.pick(6) == 0, Text: "restored from a backup"}
	if g.pick(2) == 0 {
		e.Hold = opHold
	}
	if g.pick(4) == 0 {
		e.ClusterId = []string{"second", "third"}[g.pick(2)]
	}
	return g.leaders(&pb.Event{Kind: &pb.Event_Restored{Restored: e}})
}

func (g *script) bulkStarted(n *scriptNode) scriptEvent {
	id := g.newID()
	g.bulks = append(g.bulks, &pb.BulkProgressed{BulkId: id[:]})
	filter := &pb.BulkFilter{Domain: []string{"", "example.test"}[g.pick(2)]}
	return g.send(n, &pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{
		BulkId: id[:], Filter: filter, Operation: g.operation(), Limit: uint64(g.pick(3)),
	}}}, nil)
}

// bulkProgressed carries one of the latest bulk operations on, now and then from
// where it no longer stands.
func (g *script) bulkProgressed(n *scriptNode) scriptEvent {
	if len(g.bulks) == 0 {
		return g.bulkStarted(n)
	}
	at := g.bulks[max(0, len(g.bulks)-3)+g.pick(min(3, len(g.bulks)))]
	if g.pick(4) == 0 {
		e := g.send(n, &pb.Event{Kind: &pb.Event_BulkStopped{BulkStopped: &pb.BulkStopped{BulkId: at.BulkId, Reason: "the wrong domain"}}}, nil)
		e.event.By = "ann"
		return e
	}
	e := &pb.BulkProgressed{
		BulkId: at.BulkId, From: at.Cursor, FromRecipient: at.CursorRecipient, Targets: g.targets(),
		Cursor: []byte{byte(g.pick(256))}, Finished: g.pick(3) == 0,
	}
	if g.pick(4) > 0 {
		at.Cursor, at.CursorRecipient = e.Cursor, e.CursorRecipient
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: e}}, nil)
}

// Operations for tests.
var (
	opRetry    = &pb.Operation{Kind: pb.Operation_KIND_RETRY, By: "ann"}
	opHold     = &pb.Operation{Kind: pb.Operation_KIND_HOLD, By: "ann", Reason: "looks odd"}
	opRelease  = &pb.Operation{Kind: pb.Operation_KIND_RELEASE, By: "bob"}
	opBounce   = &pb.Operation{Kind: pb.Operation_KIND_BOUNCE, By: "ann", Reason: "moved away"}
	opDelete   = &pb.Operation{Kind: pb.Operation_KIND_DELETE, By: "ann", Reason: "spam", UndoFor: int64(10 * time.Minute)}
	opUndelete = &pb.Operation{Kind: pb.Operation_KIND_UNDELETE, By: "bob"}
	opThaw     = &pb.Operation{Kind: pb.Operation_KIND_THAW, By: "ann"}
)

func operated(op *pb.Operation, id relay.MessageID, numbers ...uint32) *pb.Event {
	return &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
		Operation: op, Targets: []*pb.Target{{MessageId: id[:], Recipients: numbers}},
	}}}
}
