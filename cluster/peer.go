package cluster

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// RegisterPeer makes s answer the other nodes.
func (c *Cluster) RegisterPeer(s *grpc.Server) { pb.RegisterPeerServiceServer(s, &peerServer{c: c}) }

// peerServer implements pb.PeerServiceServer.
type peerServer struct {
	pb.UnimplementedPeerServiceServer
	c *Cluster
}

// clusterUnnamed is what Hello answers where a cluster is being made or met
// but its id isn't known yet: nobody may make another one of this node.
const clusterUnnamed = "-"

// Hello implements pb.PeerServiceServer.
func (p *peerServer) Hello(ctx context.Context, req *pb.HelloRequest) (*pb.HelloResponse, error) {
	c := p.c
	if err := c.checkName(ctx, req.Node); err != nil {
		return nil, err
	}
	if err := c.checkCluster(req.ClusterId, true); err != nil {
		return nil, err
	}
	node, address := c.Leader()
	resp := &pb.HelloResponse{
		Node: c.cfg.Node, RaftId: c.raftID, RaftAddress: c.cfg.RaftAdvertise,
		AdminAddress: c.cfg.AdminAdvertise, ClusterId: c.clusterID(),
		LeaderNode: node, LeaderAddress: address, AppliedIndex: c.cfg.State.AppliedIndex(),
		NoLease: c.whyNoLease(), Sessions: uint32(c.cfg.Sessions()), HasData: c.hasData(),
		Mismatches: c.mismatches(), StateVersion: c.cfg.State.Version(), StuckBulks: c.cfg.StuckBulks(),
	}
	for _, end := range c.cfg.Certificates() {
		resp.CertificateEnds = append(resp.CertificateEnds, &pb.CertificateEnd{Use: end.Use, Name: end.Name, NotAfter: end.NotAfter.Unix()})
	}
	if resp.ClusterId == "" && c.hasData() {
		resp.ClusterId = clusterUnnamed
	}
	return resp, nil
}

// hasData reports whether this node has, or has begun to have, a log.
func (c *Cluster) hasData() bool {
	r := c.raft.Load()
	return c.cfg.State.AppliedIndex() > 0 || r != nil && (r.LastIndex() > 0 || len(c.configuration()) > 0)
}

// checkCluster refuses calls from another cluster, and, unless fresh is true,
// from a node that has none.
func (c *Cluster) checkCluster(id string, fresh bool) error {
	own := c.clusterID()
	switch {
	case id == "" && fresh, own == "" && fresh, id == own && id != "":
		return nil
	case own == "":
		return status.Error(codes.FailedPrecondition, "this node belongs to no cluster yet")
	}
	return status.Errorf(codes.PermissionDenied, "cluster id %q is foreign, this node belongs to %s", id, own)
}

// Ping implements pb.PeerServiceServer.
func (p *peerServer) Ping(ctx context.Context, req *pb.PingRequest) (*pb.PingResponse, error) {
	if err := p.c.checkName(ctx, req.Node); err != nil {
		return nil, err
	}
	if err := p.c.checkCluster(req.ClusterId, false); err != nil {
		return nil, err
	}
	resp, err := p.c.answerPing(ctx, req)
	if errors.Is(err, errNotLeader) {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return resp, nil
}

// quickBytes of its rows a node reads for each verification, which is well under
// a second: the digests, kept as the log is applied, show nothing of what has
// changed on the disk since.
const quickBytes = 64 << 20

// Digest implements pb.PeerServiceServer.
func (p *peerServer) Digest(ctx context.Context, req *pb.DigestRequest) (*pb.DigestResponse, error) {
	if err := p.c.checkCluster(req.ClusterId, false); err != nil {
		return nil, err
	}
	digests, ok := p.c.cfg.State.MarkedDigests(req.Nonce)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "node %s has no digests of this run yet", p.c.cfg.Node)
	}
	digests.RowCheck = p.c.cfg.State.RowCheck()
	var err error
	digests.QuickCheck, err = p.c.cfg.State.QuickCheck(ctx, func() int64 { return p.c.cfg.Now().UnixNano() }, quickBytes)
	return digests, err
}

// Digests asks a node for the digests that it kept at the VerifyMarked event
// with the nonce. Until the node has applied it the error has codes.NotFound.
func (c *Cluster) Digests(ctx context.Context, nonce []byte, node string) (*pb.DigestResponse, error) {
	req := &pb.DigestRequest{ClusterId: c.clusterID(), Nonce: nonce}
	if node == c.cfg.Node {
		return (&peerServer{c: c}).Digest(ctx, req)
	}
	record, ok := c.cfg.State.Node(node)
	if !ok {
		return nil, fmt.Errorf("no node %q", node)
	}
	var resp *pb.DigestResponse
	err := c.callPeer(ctx, peerAt{node, record.AdminAddress}, func(ctx context.Context, peer pb.PeerServiceClient) (err error) {
		resp, err = peer.Digest(ctx, req)
		return err
	})
	return resp, err
}
