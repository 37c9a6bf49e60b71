package fsm

import (
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

func (t *tx) saveNode(old, now *pb.NodeRecord) {
	var raw []byte
	if old != nil {
		raw = encode(old)
	}
	t.put(keyOfName(famNodes, now.Name), raw, encode(now))
	t.tables.nodes, _, _ = t.tables.nodes.Insert([]byte(now.Name), now)
	t.tables.eligible = eligibleNodes(t.tables.nodes)
	t.staged.nodesChanged = true
}

// clusterCreated names the cluster, once.
func (t *tx) clusterCreated(e *pb.ClusterCreated) *pb.EventResult {
	if t.applied.ClusterId != "" {
		return stale("the cluster is %s", t.applied.ClusterId)
	}
	if e.ClusterId == "" {
		return invalid("a cluster needs an id")
	}
	t.applied.ClusterId = e.ClusterId
	t.staged.nodesChanged = true
	return resultOK
}

// nodeUp starts an incarnation in place of the one it names. A second process
// under the same name, which names an incarnation that is gone, is refused.
func (t *tx) nodeUp(e *pb.NodeUp) *pb.EventResult {
	old, known := lookup(t.tables.nodes, e.Node)
	switch {
	case e.Node == "" || e.Incarnation == 0:
		return invalid("a node needs a name and an incarnation")
	case reads(e) < t.tables.version:
		return invalid("%v", tooOld(e.Node, reads(e), t.tables.version))
	case e.Incarnation == e.Replaces:
		return invalid("incarnation %x can't replace itself", e.Incarnation)
	case old.GetIncarnation() == e.Incarnation && old.Active:
		return resultOK // proposed twice
	case old.GetIncarnation() != e.Replaces:
		return stale("node %s is in incarnation %x, not %x", e.Node, old.GetIncarnation(), e.Replaces)
	case t.s.sessions[e.Incarnation] != nil:
		return invalid("incarnation %x is in use", e.Incarnation)
	}
	t.node = e.Node
	if known {
		t.endIncarnation(old)
	}
	t.openSession(e.Node, e.Incarnation)
	record := &pb.NodeRecord{
		Name: e.Node, Incarnation: e.Incarnation, Active: true,
		// A node that comes back earns its destinations again by staying.
		Eligible: !known,
		UpSince:  t.event.Time, Version: e.Version,
		AdminAddress: e.AdminAddress, SmtpAddress: e.SmtpAddress, RaftId: e.RaftId, Reads: e.Reads,
	}
	if !old.GetDrainsUntilUp() {
		record.DrainingSince = old.GetDrainingSince()
	}
	t.saveNode(old, record)
	return resultOK
}

func (t *tx) nodeEligible(e *pb.NodeEligible) *pb.EventResult {
	old, ok := lookup(t.tables.nodes, e.Node)
	if !ok || old.Incarnation != e.Incarnation || !old.Active || old.Eligible {
		return stale("node %s is not in incarnation %x, or eligible already", e.Node, e.Incarnation)
	}
	record := proto.Clone(old).(*pb.NodeRecord)
	record.Eligible = true
	t.saveNode(old, record)
	return resultOK
}

// nodeDown ends an incarnation. It was proposed by a leader from what it saw in
// its own term; committed in another one it means nothing, since the node may
// have renewed its lease with the leader that came between.
func (t *tx) nodeDown(e *pb.NodeDown) *pb.EventResult {
	old, ok := lookup(t.tables.nodes, e.Node)
	if !ok || old.Incarnation != e.Incarnation || !old.Active {
		return stale("node %s is not in incarnation %x", e.Node, e.Incarnation)
	}
	if e.Term != t.term {
		return stale("seen down in term %d, now is term %d", e.Term, t.term)
	}
	record := proto.Clone(old).(*pb.NodeRecord)
	record.Active, record.Eligible, record.DownSince = false, false, t.event.Time
	t.saveNode(old, record)
	t.endIncarnation(old)
	return resultOK
}

// endIncarnation revokes what an incarnation holds.
func (t *tx) endIncarnation(node *pb.NodeRecord) {
	t.endSession(node.Incarnation)
	t.revokeClaims(node.Incarnation, node.Name)
	t.orphanUploads(node.Incarnation)
}

// verifyMarked keeps the digests as they are at this event.
func (t *tx) verifyMarked(e *pb.VerifyMarked) *pb.EventResult {
	t.flushCounters()
	t.staged.nonces = append(t.staged.nonces, string(e.Nonce))
	t.staged.marks = append(t.staged.marks, &pb.DigestResponse{Index: t.index, Digests: t.digests.record(t.tables.version)})
	return resultOK
}
