package cluster

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// cut keeps this node and its peers apart while a drill says so, as a network
// does that drops every packet: connections stay, nothing comes through, and
// what was on its way arrives when it is over. Administration goes on.
type cut struct {
	mu     sync.Mutex    // guards the fields below
	healed chan struct{} // closed at the end; nil while nothing is cut
	timer  *time.Timer
}

// begin cuts the node off for a while. It ends by itself.
func (c *cut) begin(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.healed == nil {
		c.healed = make(chan struct{})
		c.timer = time.AfterFunc(d, c.end)
	}
}

func (c *cut) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.healed != nil {
		c.timer.Stop()
		close(c.healed)
		c.healed = nil
	}
}

// wait returns nil once the network is whole. giveUp and deadline may be unset.
func (c *cut) wait(giveUp <-chan struct{}, deadline time.Time) error {
	c.mu.Lock()
	healed := c.healed
	c.mu.Unlock()
	if healed == nil {
		return nil
	}
	var late <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-healed:
		return nil
	case <-giveUp:
		return net.ErrClosed
	case <-late:
		return os.ErrDeadlineExceeded
	}
}

// dialer is a dialer whose connections the cut holds up.
func (c *cut) dialer(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		if err := c.wait(ctx.Done(), time.Time{}); err != nil {
			return nil, context.Cause(ctx)
		}
		conn, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}
		return c.wrap(conn), nil
	}
}

// wrap makes a connection to a peer one that the cut holds up.
func (c *cut) wrap(conn net.Conn) net.Conn {
	return &cutConn{Conn: conn, cut: c, closed: make(chan struct{})}
}

// cutConn delivers what it read, and takes what is to be written, only while
// the network is whole.
type cutConn struct {
	net.Conn
	cut    *cut
	closed chan struct{}
	once   sync.Once

	mu          sync.Mutex // guards the deadlines
	read, write time.Time
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if cut := c.cut.wait(c.closed, c.deadline(&c.read)); cut != nil {
		// Who gives up over a deadline closes the connection, so nothing is lost
		// that could have been read later.
		return 0, cut
	}
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	if err := c.cut.wait(c.closed, c.deadline(&c.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *cutConn) deadline(which *time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *which
}

func (c *cutConn) SetDeadline(t time.Time) error {
	c.setDeadlines(&t, &t)
	return c.Conn.SetDeadline(t)
}

func (c *cutConn) SetReadDeadline(t time.Time) error {
	c.setDeadlines(&t, nil)
	return c.Conn.SetReadDeadline(t)
}

func (c *cutConn) SetWriteDeadline(t time.Time) error {
	c.setDeadlines(nil, &t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *cutConn) setDeadlines(read, write *time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if read != nil {
		c.read = *read
	}
	if write != nil {
		c.write = *write
	}
}

func (c *cutConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// cutOptions hold up the calls of other nodes too, but not those of
// administration on the same address.
func (c *Cluster) cutOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if strings.HasPrefix(info.FullMethod, peerMethods) {
				if err := c.cut.wait(ctx.Done(), time.Time{}); err != nil {
					return nil, context.Cause(ctx)
				}
			}
			return handle(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if strings.HasPrefix(info.FullMethod, peerMethods) {
				stream = &cutStream{ServerStream: stream, cut: &c.cut}
			}
			return handle(server, stream)
		}),
	}
}

// cutStream is a stream of a peer's call.
type cutStream struct {
	grpc.ServerStream
	cut *cut
}

func (s *cutStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.wait()
}

func (s *cutStream) SendMsg(m any) error {
	if err := s.wait(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

func (s *cutStream) wait() error {
	if err := s.cut.wait(s.Context().Done(), time.Time{}); err != nil {
		return context.Cause(s.Context())
	}
	return nil
}
