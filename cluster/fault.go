package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// Faults is what a drill can do to this node beside cutting it off from the
// others. What is nil it can't do.
type Faults struct {
	// Kill ends the process at once, as kill -9 does. It doesn't return.
	Kill func()
	// Pause stops the process and has it go on by itself.
	Pause func(time.Duration) error
	// DiskFull makes the disk count as full for a while; 0 ends that.
	DiskFull func(time.Duration)
}

// faultDelay lets the answer to StartFault out before the fault that would keep
// it back.
const faultDelay = 50 * time.Millisecond

// suffering is the fault that this node suffers, or suffered last.
type suffering struct {
	mu    sync.Mutex // guards the fields below
	drill string
	begin *time.Timer // of what begins after faultDelay; nil once it has, or was called off
	err   error       // why it could not
}

// later has a fault begin after faultDelay. Guarded by mu, as what begins is: a
// timer can't be stopped once it has fired, but it may find itself called off.
func (s *suffering) later(fault func()) {
	var timer *time.Timer
	timer = time.AfterFunc(faultDelay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.begin == timer {
			s.begin = nil
			fault()
		}
	})
	s.begin = timer
}

// callOff keeps what hasn't begun from beginning. Guarded by mu.
func (s *suffering) callOff() {
	if s.begin != nil {
		s.begin.Stop()
		s.begin = nil
	}
}

// StartFault implements pb.PeerServiceServer.
func (p *peerServer) StartFault(ctx context.Context, req *pb.StartFaultRequest) (*pb.StartFaultResponse, error) {
	if err := p.c.checkCluster(req.ClusterId, false); err != nil {
		return nil, err
	}
	return &pb.StartFaultResponse{}, p.c.suffer(ctx, req.Drill, req.Index)
}

// suffer takes nobody's word for a drill but the log's: there stands that it is
// allowed, that it is the only one, who suffers and for how long.
func (c *Cluster) suffer(ctx context.Context, id string, index uint64) error {
	if err := c.cfg.State.WaitApplied(ctx, index); err != nil {
		return err
	}
	drill, ok := c.cfg.State.Drill()
	if !ok || drill.Id != id || drill.Node != c.cfg.Node || c.Now().UnixNano() > drill.Until {
		return status.Errorf(codes.FailedPrecondition, "no drill %s is under way on node %s", id, c.cfg.Node)
	}
	s := &c.suffering
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drill == id {
		return nil // asked twice
	}
	if err := c.begin(drill.Fault, time.Duration(drill.Duration)); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	s.drill, s.err = id, nil
	c.log.Warn("drill: this node suffers a fault on an operator's word", "drill", id, "fault", drill.Fault.String(),
		"for", time.Duration(drill.Duration), "by", drill.By)
	return nil
}

// begin is guarded by suffering.mu.
func (c *Cluster) begin(fault pb.Fault, d time.Duration) error {
	f := c.cfg.Faults
	switch {
	case fault == pb.Fault_FAULT_PARTITION:
		c.suffering.later(func() { c.cut.begin(d) })
	case fault == pb.Fault_FAULT_DISK_FULL && f.DiskFull != nil:
		f.DiskFull(d)
	case fault == pb.Fault_FAULT_KILL && f.Kill != nil:
		c.suffering.later(f.Kill)
	case fault == pb.Fault_FAULT_PAUSE && f.Pause != nil:
		c.suffering.later(func() {
			if c.suffering.err = f.Pause(d); c.suffering.err != nil {
				c.log.Error("drill: the process could not be paused", "error", c.suffering.err)
			}
		})
	default:
		return fmt.Errorf("node %s shares its process with others and can't suffer this: it takes nodes of `holdfast server`", c.cfg.Node)
	}
	return nil
}

// EndFault implements pb.PeerServiceServer.
func (p *peerServer) EndFault(_ context.Context, req *pb.EndFaultRequest) (*pb.EndFaultResponse, error) {
	if err := p.c.checkCluster(req.ClusterId, false); err != nil {
		return nil, err
	}
	resp := &pb.EndFaultResponse{}
	if err := p.c.heal(req.Drill); err != nil {
		resp.Text = err.Error()
	}
	return resp, nil
}

// heal ends the fault and says why it could not be suffered.
func (c *Cluster) heal(drill string) error {
	s := &c.suffering
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drill != drill {
		return nil // another one's, or of a process that is gone
	}
	s.callOff()
	c.cut.end()
	if c.cfg.Faults.DiskFull != nil {
		c.cfg.Faults.DiskFull(0)
	}
	return s.err
}

// StartFault has a node suffer the fault of the drill that the log has at index.
func (c *Cluster) StartFault(ctx context.Context, node, drill string, index uint64) error {
	if node == c.cfg.Node {
		return c.suffer(ctx, drill, index)
	}
	return c.askPeer(ctx, node, func(ctx context.Context, peer pb.PeerServiceClient) error {
		_, err := peer.StartFault(ctx, &pb.StartFaultRequest{ClusterId: c.clusterID(), Drill: drill, Index: index})
		return err
	})
}

// EndFault ends a node's fault ahead of its time. The error says why the node
// couldn't suffer it, or why it couldn't be asked.
func (c *Cluster) EndFault(ctx context.Context, node, drill string) error {
	if node == c.cfg.Node {
		return c.heal(drill)
	}
	return c.askPeer(ctx, node, func(ctx context.Context, peer pb.PeerServiceClient) error {
		answer, err := peer.EndFault(ctx, &pb.EndFaultRequest{ClusterId: c.clusterID(), Drill: drill})
		if err == nil && answer.Text != "" {
			err = errors.New(answer.Text)
		}
		return err
	})
}

// askPeer calls a node by its name.
func (c *Cluster) askPeer(ctx context.Context, node string, call func(context.Context, pb.PeerServiceClient) error) error {
	record, ok := c.cfg.State.Node(node)
	if !ok {
		return fmt.Errorf("no node %q", node)
	}
	return c.callPeer(ctx, peerAt{node, record.AdminAddress}, call)
}
