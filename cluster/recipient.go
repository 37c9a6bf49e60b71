package cluster

import (
	"context"
	"fmt"

	pb "holdfast/proto/holdfast/v1"
)

// VerifyRecipient implements pb.PeerServiceServer.
func (p *peerServer) VerifyRecipient(ctx context.Context, req *pb.VerifyRecipientRequest) (*pb.VerifyRecipientResponse, error) {
	if err := p.c.checkCluster(req.ClusterId, false); err != nil {
		return nil, err
	}
	return p.c.cfg.VerifyRecipient(ctx, req)
}

// VerifyRecipient has a node that owns a destination ask it for a recipient. Unlike
// other calls it takes as long as ctx lets it: the destination has to answer.
func (c *Cluster) VerifyRecipient(ctx context.Context, node string, req *pb.VerifyRecipientRequest) (*pb.VerifyRecipientResponse, error) {
	req.ClusterId = c.clusterID()
	if node == c.cfg.Node {
		return c.cfg.VerifyRecipient(ctx, req)
	}
	record, ok := c.cfg.State.Node(node)
	if !ok {
		return nil, fmt.Errorf("no node %q", node)
	}
	conn, err := c.connect(peerAt{node, record.AdminAddress})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return pb.NewPeerServiceClient(conn).VerifyRecipient(ctx, req)
}
