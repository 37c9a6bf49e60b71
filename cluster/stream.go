package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/pki"
)

// streamLayer makes the connections of raft's transport.
type streamLayer struct {
	listener  net.Listener
	raftID    string
	advertise string
	dial      func(ctx context.Context, address string) (net.Conn, error)
	tls       *pki.Credentials        // nil for plain text
	accept    func(net.Conn) net.Conn // makes of a connection that came in what raft gets
	// clusterID is "" until known; meet takes the id that a peer named, or
	// refuses it.
	clusterID func() string
	meet      func(clusterID string) error
	log       *slog.Logger

	ctx      context.Context
	cancel   context.CancelFunc
	accepted chan net.Conn
	wg       sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	conns   map[net.Conn]struct{}
	opening []net.Conn // that came in and aren't raft's yet, oldest first
	closed  bool
}

const (
	// prefaceTimeout bounds the exchange that opens a connection.
	prefaceTimeout = 5 * time.Second
	// maxPrefaces is how many connections may be in that exchange. One more ends
	// the oldest of them: whoever opens some and says nothing must not keep a
	// node out for as long as an election takes.
	maxPrefaces = 64
)

// start begins to accept; Close ends it and waits.
func (s *streamLayer) start(ctx context.Context) {
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.accepted = make(chan net.Conn)
	s.conns = map[net.Conn]struct{}{}
	s.wg.Go(s.acceptLoop)
}

func (s *streamLayer) acceptLoop() {
	slots := make(chan struct{}, maxPrefaces)
	for {
		conn, err := s.listener.Accept()
		if s.ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			s.log.Warn("accept a raft connection", "error", err)
			if !sleep(s.ctx, 50*time.Millisecond) {
				return
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			s.endOldest()
			slots <- struct{}{}
		}
		s.begin(conn)
		s.wg.Go(func() {
			defer func() { <-slots }()
			s.welcome(conn)
		})
	}
}

func (s *streamLayer) begin(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = append(s.opening, conn)
}

func (s *streamLayer) opened(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = slices.DeleteFunc(s.opening, func(c net.Conn) bool { return c == conn })
}

// endOldest ends the connection that has been opening for the longest.
func (s *streamLayer) endOldest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.opening) > 0 {
		s.opening[0].Close() // its goroutine finds it broken
		s.opening = slices.Delete(s.opening, 0, 1)
	}
}

// welcome checks the preface and hands the connection to raft.
func (s *streamLayer) welcome(conn net.Conn) {
	defer s.opened(conn)
	keepAlive(conn)
	tracked, err := s.track(s.accept(conn))
	if err != nil {
		return
	}
	ready, err := s.answer(tracked)
	if err != nil {
		s.log.Debug("refused a raft connection", "from", conn.RemoteAddr().String(), "error", err)
		tracked.Close()
		return
	}
	s.opened(conn)
	select {
	case s.accepted <- ready:
	case <-s.ctx.Done():
		ready.Close()
	}
}

// answer gives the connection to use from then on.
func (s *streamLayer) answer(conn net.Conn) (net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(prefaceTimeout)); err != nil {
		return nil, err
	}
	if s.tls == nil {
		return conn, s.admit(conn, "")
	}
	secured, err := s.tls.Accept(conn, pki.ProtocolRaft)
	if err != nil {
		return nil, err
	}
	if err := s.admit(secured, secured.Peer.Name); err != nil {
		secured.Close()
		return nil, err
	}
	return secured, nil
}

// admit reads the preface and answers it. The node is that of the certificate,
// "" without one.
func (s *streamLayer) admit(conn net.Conn, node string) error {
	p, err := readPreface(conn)
	if err != nil {
		return err
	}
	refusal := s.check(p, node)
	reason := ""
	if refusal != nil {
		reason = refusal.Error()
		reason = reason[:min(len(reason), 255)]
	}
	reply, err := appendString(nil, reason)
	if err != nil {
		return err
	}
	if _, err := conn.Write(reply); err != nil {
		return err
	}
	if refusal != nil {
		return refusal
	}
	return conn.SetDeadline(time.Time{})
}

func (s *streamLayer) check(p preface, node string) error {
	if node != "" && nodeOf(p.source) != node {
		return fmt.Errorf("the certificate is node %s's, not that of %s", node, p.source)
	}
	if p.target != s.raftID {
		return fmt.Errorf("this is %s, not %s", s.raftID, p.target)
	}
	if p.cluster == "" {
		return nil // the first messages of a new cluster
	}
	return s.meet(p.cluster)
}

// Accept implements net.Listener.
func (s *streamLayer) Accept() (net.Conn, error) {
	select {
	case conn := <-s.accepted:
		return conn, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer.
func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	target, hostport, err := splitRaftAddress(string(address))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, min(timeout, prefaceTimeout))
	defer cancel()
	conn, err := s.dial(ctx, hostport)
	if err != nil {
		return nil, err
	}
	tracked, err := s.track(conn)
	if err != nil {
		return nil, err
	}
	ready, err := s.secure(ctx, tracked, nodeOf(target))
	if err == nil {
		if err = s.introduce(ctx, ready, target); err == nil {
			return ready, nil
		}
	}
	tracked.Close() // first: a goodbye could wait for a peer that doesn't read
	if ready != nil {
		ready.Close() // else the credentials would keep it for ever
	}
	return nil, fmt.Errorf("raft connection to %s: %w", hostport, err)
}

func (s *streamLayer) secure(ctx context.Context, conn net.Conn, node string) (net.Conn, error) {
	if s.tls == nil {
		return conn, nil
	}
	secured, err := s.tls.Dial(ctx, conn, node, pki.ProtocolRaft)
	if err != nil {
		return nil, err
	}
	return secured, nil
}

func (s *streamLayer) introduce(ctx context.Context, conn net.Conn, target string) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if err := (preface{cluster: s.clusterID(), source: s.raftID, target: target}).write(conn); err != nil {
		return err
	}
	reason, err := readString(conn)
	if err != nil {
		return err
	}
	if reason != "" {
		return errors.New("refused: " + reason)
	}
	return conn.SetDeadline(time.Time{})
}

// Addr implements net.Listener; raft announces it as this server's address.
func (s *streamLayer) Addr() net.Addr { return streamAddr(raftAddress(s.raftID, s.advertise)) }

type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }

// Close ends every connection, also those that raft's transport would wait for.
func (s *streamLayer) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()

	s.cancel()
	err := s.listener.Close()
	for conn := range conns {
		conn.Close()
	}
	s.wg.Wait()
	return err
}

// track makes sure that Close closes conn too.
func (s *streamLayer) track(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	s.conns[conn] = struct{}{}
	return &trackedConn{Conn: conn, layer: s}, nil
}

type trackedConn struct {
	net.Conn
	layer *streamLayer
}

func (t *trackedConn) Close() error {
	t.layer.mu.Lock()
	delete(t.layer.conns, t.Conn)
	t.layer.mu.Unlock()
	return t.Conn.Close()
}
