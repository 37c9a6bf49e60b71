package admin

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// Drills is what a drill needs of the nodes.
type Drills interface {
	// StartFault has a node suffer the fault of the drill that the log has at
	// index; EndFault ends it ahead of its time, and says why it was none.
	StartFault(ctx context.Context, node, drill string, index uint64) error
	EndFault(ctx context.Context, node, drill string) error
	// WatchAcceptance tells again and again why a node takes no mail, "" where
	// it does, until ctx ends.
	WatchAcceptance(ctx context.Context, node string, tell func(why string)) error
	// Answered lists what a node has answered 250 during a drill.
	Answered(ctx context.Context, node, drill string, each func(ids []string) error) error
}

// shortestFault outlasts a takeover, so that there is something to report.
const shortestFault = 10 * time.Second

// RunDrill does what an operator could do by pulling a plug, and watches. What
// begins is in the log first: there it is refused without consent or beside
// another drill, and from there the node that suffers takes its orders. That
// node also ends the fault, so nothing depends on this call going on.
func (s *clusterService) RunDrill(req *pb.RunDrillRequest, stream grpc.ServerStreamingServer[pb.RunDrillResponse]) error {
	ctx := stream.Context()
	d, err := s.planDrill(ctx, req)
	if err != nil {
		return err
	}
	d.tell = func(format string, args ...any) {
		// A client that is gone ends ctx.
		_ = stream.Send(&pb.RunDrillResponse{Progress: fmt.Sprintf(format, args...)})
	}
	report, err := d.run(ctx)
	if err != nil {
		return err
	}
	return stream.Send(&pb.RunDrillResponse{Report: report})
}

// planDrill refuses what can't be done, or not now.
func (s *clusterService) planDrill(ctx context.Context, req *pb.RunDrillRequest) (*drill, error) {
	d := &drill{node: s.node, fault: req.Fault, victim: req.Node, lasts: shortestFault, patience: drillPatience}
	if req.Duration != nil {
		d.lasts = req.Duration.AsDuration()
	}
	if d.lasts < shortestFault || d.lasts > fsm.MaxFault {
		return nil, invalid("duration", "a fault lasts %s to %s: shorter ones are over before anybody has taken over", shortestFault, fsm.MaxFault)
	}
	if req.Fault == pb.Fault_FAULT_UNSPECIFIED || pb.Fault_name[int32(req.Fault)] == "" {
		return nil, invalid("fault", "which fault?")
	}
	if !s.State.Settings().DrillConsent {
		return nil, precondition("consent", "", "drills are not allowed here: `holdfast settings set --drill-consent yes` allows them")
	}
	leader := s.Cluster.Leader()
	if req.Fault == pb.Fault_FAULT_KILL && d.victim == "" {
		d.victim = leader
	}
	members := s.Cluster.Members(ctx)
	if err := s.soundForDrill(ctx, members, leader); err != nil {
		return nil, err
	}
	if _, err := s.nodeNamed(d.victim); err != nil || d.victim == "" {
		return nil, invalid("node", "which node? `holdfast status` lists them")
	}
	switch {
	case req.Fault == pb.Fault_FAULT_KILL && d.victim != leader:
		return nil, invalid("node", "node %s leads, not %s", leader, d.victim)
	case req.Fault != pb.Fault_FAULT_DISK_FULL && d.victim == s.Node:
		return nil, precondition("node", s.Node, "node %s answers here and couldn't watch its own fault: run the drill at another node (--addr)", s.Node)
	}
	for _, member := range members {
		d.members = append(d.members, member.Name)
	}
	return d, nil
}

// soundForDrill wants a cluster that can spare a node, and in which nothing is
// amiss that could be taken for the drill's doing.
func (s *clusterService) soundForDrill(ctx context.Context, members []Member, leader string) error {
	unfit := func(format string, args ...any) error {
		return precondition("cluster", "", "no drill now: "+format, args...)
	}
	if leader == "" || !s.Cluster.Leased() {
		return unfit("node %s has no quorum", s.Node)
	}
	voters := 0
	for _, member := range members {
		record, known := s.State.Node(member.Name)
		switch {
		case !member.Alive || !known:
			return unfit("node %s does not answer", member.Name)
		case member.NoLease != "":
			return unfit("node %s takes no mail: %s", member.Name, member.NoLease)
		case record.DrainingSince != 0:
			return unfit("node %s is out of service", member.Name)
		case len(member.Mismatches) > 0:
			return unfit("the state of a node is damaged: `holdfast cluster verify`")
		}
		if member.Voter {
			voters++
		}
	}
	if voters < 3 {
		return unfit("with %d voting nodes the loss of one ends the quorum", voters)
	}
	w, err := s.window(ctx)
	if err != nil {
		return err
	}
	defer w.release()
	if n := w.Counters().InDoubt; n > 0 {
		return unfit("%s in doubt already: `holdfast queue list` shows them", recipients(n, "is", "are"))
	}
	if health := s.Cluster.Health(); health.DisksLow || health.DiskFree < health.DiskReserve {
		return unfit("a disk has reached its reserve")
	}
	return nil
}
