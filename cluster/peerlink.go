package cluster

import (
	"errors"
	"sync"

	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

var errNoLeader = errors.New("no leader is known")

// peerLink is a connection to one peer at a time. Pings have their own: they
// must not wait behind bodies.
type peerLink struct {
	cluster *Cluster

	mu   sync.Mutex // guards the fields below
	to   peerAt
	conn *grpc.ClientConn
}

// client connects to a peer; a connection to another one is closed.
func (p *peerLink) client(to peerAt) (pb.PeerServiceClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil || p.to != to {
		conn, err := p.cluster.connect(to)
		if err != nil {
			return nil, err
		}
		if p.conn != nil {
			p.conn.Close()
		}
		p.conn, p.to = conn, to
	}
	return pb.NewPeerServiceClient(p.conn), nil
}

func (p *peerLink) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}
