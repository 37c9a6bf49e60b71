package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// TryAccept implements pb.PeerServiceServer.
func (p *peerServer) TryAccept(ctx context.Context, req *pb.TryAcceptRequest) (*pb.TryAcceptResponse, error) {
	if err := p.c.checkCluster(req.ClusterId, false); err != nil {
		return nil, err
	}
	why, err := p.c.tryAccept(ctx)
	return &pb.TryAcceptResponse{Accepted: why == "", Text: why}, err
}

// tryAccept does what stands between a message and its 250: the front door is
// open, and an event of this node comes into the log and is applied. The event
// gives up an upload that never was, which changes nothing.
func (c *Cluster) tryAccept(ctx context.Context) (why string, err error) {
	if why := c.cfg.FrontDoor(); why != "" {
		return why, nil
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	event := &pb.Event{Kind: &pb.Event_ContentAbandoned{ContentAbandoned: &pb.ContentAbandoned{MessageId: id[:]}}}
	if _, _, err := c.Propose(ctx, event, nil); err != nil {
		return err.Error(), nil //nolint:nilerr // it is the answer: why not
	}
	return "", nil
}

// How often a node is asked whether it takes mail, and how long one answer may
// take: it comes as soon as there is a quorum again.
const (
	tryEvery    = 25 * time.Millisecond
	tryPatience = 2 * time.Second
)

// WatchAcceptance asks a node again and again whether it would take a message,
// and tells of each answer, until ctx ends. why is "" where it would.
func (c *Cluster) WatchAcceptance(ctx context.Context, node string, tell func(why string)) error {
	try := c.tryAccept
	if node != c.cfg.Node {
		record, ok := c.cfg.State.Node(node)
		if !ok {
			return fmt.Errorf("no node %q", node)
		}
		conn, err := c.connect(peerAt{node, record.AdminAddress})
		if err != nil {
			return err
		}
		defer conn.Close()
		peer := pb.NewPeerServiceClient(conn)
		try = func(ctx context.Context) (string, error) {
			answer, err := peer.TryAccept(ctx, &pb.TryAcceptRequest{ClusterId: c.clusterID()})
			return answer.GetText(), err
		}
	}
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, tryPatience)
		why, err := try(once)
		cancel()
		if err != nil {
			why = status.Convert(err).Message()
		}
		if ctx.Err() == nil {
			tell(why)
		}
		sleep(ctx, tryEvery)
	}
	return nil
}

// ListAnswered implements pb.PeerServiceServer.
func (p *peerServer) ListAnswered(req *pb.ListAnsweredRequest, stream grpc.ServerStreamingServer[pb.ListAnsweredResponse]) error {
	if err := p.c.checkCluster(req.ClusterId, false); err != nil {
		return err
	}
	return p.c.cfg.Answered(req.Drill, func(ids []string) error {
		return stream.Send(&pb.ListAnsweredResponse{Ids: ids})
	})
}

// Answered hands on what a node has answered 250 during a drill.
func (c *Cluster) Answered(ctx context.Context, node, drill string, each func(ids []string) error) error {
	if node == c.cfg.Node {
		return c.cfg.Answered(drill, each)
	}
	return c.askPeer(ctx, node, func(ctx context.Context, peer pb.PeerServiceClient) error {
		stream, err := peer.ListAnswered(ctx, &pb.ListAnsweredRequest{ClusterId: c.clusterID(), Drill: drill})
		if err != nil {
			return err
		}
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				err = each(part.Ids)
			}
			if err != nil {
				return err
			}
		}
	})
}
