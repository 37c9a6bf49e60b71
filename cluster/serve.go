package cluster

import (
	"sync"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// maxServed is how many entries of one node the leader has under way. A node
// sends no more than two lanes' worth; beyond, its stream waits.
const maxServed = 16

// Propose implements pb.PeerServiceServer: other nodes' entries come in here.
// They go no further: only the leader takes them.
func (p *peerServer) Propose(stream grpc.BidiStreamingServer[pb.ProposeRequest, pb.ProposeResponse]) error {
	var (
		wg      sync.WaitGroup
		sending sync.Mutex
		slots   = make(chan struct{}, maxServed)
	)
	defer wg.Wait()
	for {
		req, err := stream.Recv()
		if err != nil {
			return nil // the sender's end; it knows why
		}
		if err := p.c.checkCluster(req.ClusterId, false); err != nil {
			return err
		}
		if len(req.Entry) > fsm.MaxEntry {
			return status.Errorf(codes.InvalidArgument, "entry of %d bytes, at most %d", len(req.Entry), fsm.MaxEntry)
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			resp := p.c.serve(req)
			sending.Lock()
			defer sending.Unlock()
			// A sender that is gone counts the outcome as unknown.
			_ = stream.Send(resp)
		})
	}
}

func (c *Cluster) serve(req *pb.ProposeRequest) *pb.ProposeResponse {
	out := outcome{kind: outcomeRefused, err: errNotLeader}
	if err := fsm.CheckEntry(req.Entry, c.cfg.State.Version()); err != nil {
		// In the log it would stop every node that is no newer than this one.
		out.err = err
		c.log.Error("entry of another node refused", "error", err)
	} else if r := c.raft.Load(); r != nil && r.State() == raft.Leader {
		out = c.apply(req.Entry)
	}
	resp := &pb.ProposeResponse{Id: req.Id}
	switch out.kind {
	case outcomeApplied:
		resp.Outcome = pb.ProposeResponse_OUTCOME_APPLIED
		resp.Index, resp.Results = out.applied.Index, out.applied.Results
		return resp
	case outcomeRefused:
		resp.Outcome = pb.ProposeResponse_OUTCOME_REFUSED
	default:
		resp.Outcome = pb.ProposeResponse_OUTCOME_UNKNOWN
	}
	resp.Text = out.err.Error()
	return resp
}
