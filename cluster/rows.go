package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

// By itself a node reads all its rows a while after its start, when a disk that
// changed under it would show, and then once a day; slowly, since mail goes first.
const (
	firstRowCheck = 15 * time.Minute
	rowCheckEvery = 24 * time.Hour
	rowCheckPace  = 8 << 20 // bytes a second
)

func (c *Cluster) checkRowsDaily(ctx context.Context) {
	for wait := firstRowCheck; sleep(ctx, wait); wait = rowCheckEvery {
		_, err := c.checkRows(ctx, func(_, bytes int) error {
			if !sleep(ctx, time.Duration(bytes)*time.Second/rowCheckPace) {
				return ctx.Err()
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			c.log.Warn("the rows of the state were not checked", "error", err)
		}
	}
}

// checkRows reads the rows of this node, one check at a time.
func (c *Cluster) checkRows(ctx context.Context, step func(rows, bytes int) error) (*pb.RowCheck, error) {
	c.checking.Lock()
	defer c.checking.Unlock()
	began := c.cfg.Now()
	check, err := c.cfg.State.CheckRows(ctx, func() int64 { return c.cfg.Now().UnixNano() }, step)
	if err != nil {
		return nil, err
	}
	c.metrics.rowsDamaged.Set(float64(len(check.Damages)))
	for _, d := range check.Damages {
		c.log.Error("the state is damaged: a family's rows are not what was written",
			"family", d.Family, "damage", d.Text, "index", check.Index)
	}
	if len(check.Damages) == 0 {
		c.log.Info("the rows of the state were checked", "rows", check.Rows, "index", check.Index, "took", c.cfg.Now().Sub(began))
	}
	return check, nil
}

// progressEvery is how often the progress of a check is told.
const progressEvery = 500 * time.Millisecond

// CheckRows implements pb.PeerServiceServer.
func (p *peerServer) CheckRows(req *pb.CheckRowsRequest, stream grpc.ServerStreamingServer[pb.CheckRowsResponse]) error {
	if err := p.c.checkCluster(req.ClusterId, false); err != nil {
		return err
	}
	return p.c.checkRowsAloud(stream.Context(), stream.Send)
}

// checkRowsAloud checks the rows here and tells about it.
func (c *Cluster) checkRowsAloud(ctx context.Context, tell func(*pb.CheckRowsResponse) error) error {
	total, err := c.rows()
	if err != nil {
		return err
	}
	read, told := uint64(0), c.cfg.Monotonic()
	check, err := c.checkRows(ctx, func(rows, _ int) error {
		read += uint64(rows)
		if now := c.cfg.Monotonic(); now-told < progressEvery {
			return nil
		}
		told = c.cfg.Monotonic()
		return tell(&pb.CheckRowsResponse{Rows: read, Total: max(total, read)})
	})
	if err != nil {
		return err
	}
	return tell(&pb.CheckRowsResponse{Rows: check.Rows, Total: check.Rows, Result: check})
}

// rows counts the replicated rows here.
func (c *Cluster) rows() (uint64, error) {
	view, err := c.cfg.State.View()
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	for _, d := range view.Digests() {
		n += d.Rows
	}
	return n, view.Close()
}

// CheckRows has a node read all its rows, and hands on what it tells.
func (c *Cluster) CheckRows(ctx context.Context, node string, tell func(*pb.CheckRowsResponse) error) error {
	if node == c.cfg.Node {
		return c.checkRowsAloud(ctx, tell)
	}
	record, ok := c.cfg.State.Node(node)
	if !ok {
		return fmt.Errorf("no node %q", node)
	}
	conn, err := c.connect(peerAt{node, record.AdminAddress})
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := pb.NewPeerServiceClient(conn).CheckRows(ctx, &pb.CheckRowsRequest{ClusterId: c.clusterID()})
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = tell(answer)
		}
		if err != nil {
			return err
		}
	}
}

// Announce keeps what a verification of all nodes found, for whoever asks this
// node: nil where nothing is wrong.
func (c *Cluster) Announce(found []*pb.StateMismatch) { c.verified.Store(&found) }

// mismatches is what this node knows of states that differ: of the others only
// the leader has anything to say, since only it verifies by itself.
func (c *Cluster) mismatches() []*pb.StateMismatch {
	var found []*pb.StateMismatch
	for _, d := range c.cfg.State.RowCheck().GetDamages() {
		found = append(found, &pb.StateMismatch{Node: c.cfg.Node, Family: d.Family, Text: d.Text})
	}
	if verified := c.verified.Load(); verified != nil && c.leader.Load().self {
		found = append(found, *verified...)
	}
	return found
}
