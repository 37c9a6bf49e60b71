package fsm

import (
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// nodeDraining takes a node out of service. An operator's drain outlasts the
// node's restart; one that comes with a stop doesn't, and never shortens the other.
func (t *tx) nodeDraining(e *pb.NodeDraining) *pb.EventResult {
	old, ok := lookup(t.tables.nodes, e.Node)
	if !ok {
		return noNode(e.Node)
	}
	if old.DrainingSince != 0 && (e.UntilUp || !old.DrainsUntilUp) {
		return resultOK
	}
	record := proto.Clone(old).(*pb.NodeRecord)
	record.DrainsUntilUp = e.UntilUp
	if record.DrainingSince == 0 {
		record.DrainingSince = max(t.event.Time, 1)
	}
	t.saveNode(old, record)
	return resultOK
}

// nodeResumed makes a node own destinations again at once: what it was asked to
// leave says nothing about how it does.
func (t *tx) nodeResumed(e *pb.NodeResumed) *pb.EventResult {
	old, ok := lookup(t.tables.nodes, e.Node)
	if !ok {
		return noNode(e.Node)
	}
	if old.DrainingSince == 0 {
		return resultOK
	}
	record := proto.Clone(old).(*pb.NodeRecord)
	record.DrainingSince, record.DrainsUntilUp = 0, false
	t.saveNode(old, record)
	return resultOK
}

// nodeRemoved forgets a node. It names the incarnation that its leader saw: the
// name may have been given to a new node meanwhile.
func (t *tx) nodeRemoved(e *pb.NodeRemoved) *pb.EventResult {
	old, ok := lookup(t.tables.nodes, e.Node)
	if !ok || old.Incarnation != e.Incarnation {
		return stale("node %s is not in incarnation %x", e.Node, e.Incarnation)
	}
	t.endIncarnation(old)
	t.remove(keyOfName(famNodes, old.Name), encode(old))
	t.tables.nodes, _, _ = t.tables.nodes.Delete([]byte(old.Name))
	t.tables.eligible = eligibleNodes(t.tables.nodes)
	t.staged.nodesChanged = true
	return resultOK
}

func noNode(name string) *pb.EventResult {
	return refused(pb.EventResult_CODE_NOT_FOUND, "no node %s", name)
}
