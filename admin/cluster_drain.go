package admin

import (
	"context"
	"fmt"

	pb "holdfast/proto/holdfast/v1"
)

func (s *clusterService) DrainNode(ctx context.Context, req *pb.DrainNodeRequest) (*pb.DrainNodeResponse, error) {
	name, err := s.nodeNamed(req.Name)
	if err != nil {
		return nil, err
	}
	event := &pb.Event{Kind: &pb.Event_NodeDraining{NodeDraining: &pb.NodeDraining{Node: name}}}
	if err := s.configure(ctx, event, "node "+name); err != nil {
		return nil, err
	}
	drain, err := s.drain(ctx, name)
	return &pb.DrainNodeResponse{Drain: drain}, err
}

func (s *clusterService) ResumeNode(ctx context.Context, req *pb.ResumeNodeRequest) (*pb.ResumeNodeResponse, error) {
	name, err := s.nodeNamed(req.Name)
	if err != nil {
		return nil, err
	}
	event := &pb.Event{Kind: &pb.Event_NodeResumed{NodeResumed: &pb.NodeResumed{Node: name}}}
	if err := s.configure(ctx, event, "node "+name); err != nil {
		return nil, err
	}
	drain, err := s.drain(ctx, name)
	return &pb.ResumeNodeResponse{Drain: drain}, err
}

func (s *clusterService) GetDrain(ctx context.Context, req *pb.GetDrainRequest) (*pb.GetDrainResponse, error) {
	name, err := s.nodeNamed(req.Name)
	if err != nil {
		return nil, err
	}
	drain, err := s.drain(ctx, name)
	return &pb.GetDrainResponse{Drain: drain}, err
}

// nodeNamed is the node that a request is about: this one where it names none.
func (s *clusterService) nodeNamed(name string) (string, error) {
	if name == "" {
		name = s.Node
	}
	if _, ok := s.State.Node(name); !ok {
		return "", notFound("node", name, fmt.Sprintf("no node %s in the cluster; `holdfast status` lists its nodes", name))
	}
	return name, nil
}

// drain tells how far a node has left service. Its deliveries are counted in
// the replicated state, its sessions only by itself.
func (s *clusterService) drain(ctx context.Context, name string) (*pb.Drain, error) {
	record, ok := s.State.Node(name)
	if !ok {
		return nil, notFound("node", name, fmt.Sprintf("no node %s in the cluster any more", name))
	}
	d := &pb.Drain{
		Node: name, Since: timestamp(record.DrainingSince),
		Attempts: uint32(len(s.State.Claims(record.Incarnation))),
		Leads:    s.Cluster.Leader() == name,
	}
	if n, err := s.Membership.Sessions(ctx, name); err == nil {
		sessions := uint32(n)
		d.Sessions = &sessions
	}
	// The only node leads in any case; stopping it stops the cluster, as asked.
	alone := name == s.Node && s.Membership.LeadsAlone()
	idle := d.Attempts == 0 && (!record.Active || d.Sessions != nil && *d.Sessions == 0)
	d.SafeToStop = d.Since != nil && idle && (!d.Leads || alone)
	return d, nil
}
