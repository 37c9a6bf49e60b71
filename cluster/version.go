package cluster

import (
	"slices"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// raise is the event that takes the state to the latest version that all nodes
// can read, nil where it has that. Members that are down count, and so do those
// that have never been up: each may come back, or come, with what it has now.
func (l *leadership) raise(records []*pb.NodeRecord) *pb.Event {
	known := func(node string) bool {
		return slices.ContainsFunc(records, func(r *pb.NodeRecord) bool { return r.Name == node })
	}
	for _, server := range l.c.configuration() {
		if !known(nodeOf(string(server.ID))) {
			return nil
		}
	}
	version := fsm.CommonVersion(records)
	if version <= l.c.cfg.State.Version() {
		return nil
	}
	l.c.log.Info("all nodes can read a later version of the state: raises it", "version", version)
	return &pb.Event{Kind: &pb.Event_VersionRaised{VersionRaised: &pb.VersionRaised{Version: version}}}
}
