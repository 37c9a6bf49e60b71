package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

type clusterService struct {
	pb.UnimplementedClusterServiceServer
	*node
}

func (s *clusterService) GetStatus(ctx context.Context, _ *pb.GetStatusRequest) (*pb.GetStatusResponse, error) {
	members := s.Cluster.Members(ctx)
	w, err := s.window()
	if err != nil {
		return nil, err
	}
	defer w.release()
	out := &pb.GetStatusResponse{
		Leader:       s.Cluster.Leader(),
		Stale:        !w.quorum,
		Nodes:        nodes(members, w.Nodes()),
		Queue:        queueCount(w.Counters()),
		ClusterId:    s.State.ClusterID(),
		Node:         s.Node,
		AppliedIndex: w.Index(),
	}
	for _, record := range w.Destinations() {
		if health := record.Health; health.GetState() == pb.DestinationHealth_STATE_DOWN {
			out.DestinationsDown = append(out.DestinationsDown, &pb.GetStatusResponse_DestinationDown{
				Name:      record.Config.GetName(),
				Since:     timestamp(health.Since),
				Error:     deliveryError(health.Failure),
				NextProbe: timestamp(health.NextProbe),
			})
		}
	}
	out.Warnings = append(w.warnings(out, members), mismatchWarnings(members)...)
	return out, nil
}

// nodes joins what raft knows of its members with what they said of themselves.
func nodes(members []Member, records []*pb.NodeRecord) []*pb.GetStatusResponse_Node {
	var out []*pb.GetStatusResponse_Node
	for _, member := range members {
		node := &pb.GetStatusResponse_Node{
			Name: member.Name, Voter: member.Voter, Alive: member.Alive, AppliedIndex: member.AppliedIndex,
		}
		for _, record := range records {
			if record.Name == member.Name {
				node.Version, node.AdminAddress, node.SmtpAddress = record.Version, record.AdminAddress, record.SmtpAddress
				node.Draining = record.DrainingSince != 0
			}
		}
		out = append(out, node)
	}
	slices.SortFunc(out, func(a, b *pb.GetStatusResponse_Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (w window) warnings(status *pb.GetStatusResponse, members []Member) []*pb.GetStatusResponse_Warning {
	var warnings []*pb.GetStatusResponse_Warning
	warn := func(code, subject, format string, args ...any) {
		warnings = append(warnings, &pb.GetStatusResponse_Warning{Code: code, Subject: subject, Text: fmt.Sprintf(format, args...)})
	}
	if status.Stale {
		warn("no-quorum", "", "node %s has no quorum: it accepts and delivers nothing, and what it shows may be old", status.Node)
	}
	if status.Leader == "" {
		warn("no-leader", "", "node %s knows no leader", status.Node)
	}
	memberWarnings(status.Nodes, warn)
	for _, member := range members {
		if member.NoLease != "" && !status.Stale {
			warn("no-lease", member.Name, "node %s accepts and delivers nothing: %s", member.Name, member.NoLease)
		}
	}
	for _, down := range status.DestinationsDown {
		count := w.DestinationCounter(down.Name)
		warn("destination-down", down.Name, "destination %s is down since %s (%s), %d recipients wait for it",
			down.Name, down.Since.AsTime().Format("2006-01-02T15:04:05Z"), errorText(down.Error), count.GetPending())
	}
	if n := status.Queue.Held; n > 0 {
		warn("held-in-doubt", "", "%d recipients are held after attempts whose outcome is unknown: `holdfast queue list --state held` shows them", n)
	}
	if n := status.Queue.Frozen; n > 0 {
		warn("frozen", "", "%d recipients of reports that failed are frozen: `holdfast queue list --state frozen` shows them", n)
	}
	if len(w.Domains()) == 0 {
		warn("not-configured", "", "no domain is configured, all mail is answered 451: `holdfast destination set` and `holdfast domain set` come first")
	}
	return append(warnings, w.limitWarnings()...)
}

// mismatchWarnings are about nodes whose state isn't what it should be. Two
// members may know of the same.
func mismatchWarnings(members []Member) []*pb.GetStatusResponse_Warning {
	var warnings []*pb.GetStatusResponse_Warning
	for _, member := range members {
		for _, m := range member.Mismatches {
			warning := &pb.GetStatusResponse_Warning{Code: "state-mismatch", Subject: m.Node, Text: fmt.Sprintf(
				"the state of node %s is damaged in %s (%s): `holdfast cluster verify --deep` shows it; replace the node", m.Node, m.Family, m.Text)}
			if !slices.ContainsFunc(warnings, func(other *pb.GetStatusResponse_Warning) bool { return proto.Equal(other, warning) }) {
				warnings = append(warnings, warning)
			}
		}
	}
	return warnings
}

func errorText(e *pb.DeliveryError) string {
	if e == nil {
		return "cause unknown"
	}
	return describe(&pb.Failure{Cause: e.Cause, Phase: e.Phase, Host: e.Host, Code: e.Code, Enhanced: e.Enhanced, Text: e.Text})
}
