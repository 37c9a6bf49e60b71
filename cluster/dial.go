package cluster

import (
	"context"
	"net"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	pb "holdfast/proto/holdfast/v1"
)

// userTimeout is how long sent bytes may stay unacknowledged before the kernel
// gives a connection up (tcp(7), TCP_USER_TIMEOUT).
const userTimeout = 5 * time.Second

// dialTCP connects to a peer.
func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	keepAlive(conn)
	return conn, nil
}

// keepAlive makes a dead peer noticed: neither the receiver of a snapshot nor
// an idle stream has a deadline. It is best effort: a connection without the
// options still works.
func keepAlive(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5})
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}

// peerAt is a node and where it is reached; "" is any node of the cluster.
type peerAt struct{ node, address string }

// connect is the one place that says how gRPC connections to peers are made
// and secured.
func (c *Cluster) connect(to peerAt) (*grpc.ClientConn, error) {
	secured := insecure.NewCredentials()
	if c.cfg.TLS != nil {
		secured = c.cfg.TLS.ForNode(to.node)
	}
	return grpc.NewClient("passthrough:///"+to.address,
		grpc.WithTransportCredentials(secured),
		grpc.WithContextDialer(c.cfg.DialPeer),
		grpc.WithConnectParams(grpc.ConnectParams{
			// gRPC's own backoff goes up to two minutes.
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithIdleTimeout(0),
	)
}

// callPeer makes one call over a connection of its own.
func (c *Cluster) callPeer(ctx context.Context, to peerAt, call func(context.Context, pb.PeerServiceClient) error) error {
	conn, err := c.connect(to)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.RPC)
	defer cancel()
	return call(ctx, pb.NewPeerServiceClient(conn))
}
