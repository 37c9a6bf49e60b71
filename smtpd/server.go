package smtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/loglimit"
	"holdfast/netlimit"
	"holdfast/relay"
)

// Server takes mail. New makes one, Serve runs it once.
type Server struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	buffers  *buffers
	refusals *loglimit.Lines
	guesses  *guesses

	// proposing ends after the grace at shutdown, cleaning a while later. Both
	// live from Serve on.
	proposing, cleaning context.Context

	sessions, proposals, cleanups sync.WaitGroup
	cleanupsRunning               atomic.Int64
	lingering                     chan struct{} // connections turned away that are still read

	mu        sync.Mutex // guards what follows
	served    bool
	stopping  bool
	draining  bool
	conns     map[*conn]struct{}
	perClient map[netip.Prefix]int
}

// New checks the configuration and makes a server.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m := newMetrics(cfg.Registerer)
	log := cfg.Logger.With("component", "smtpd")
	s := &Server{
		cfg:       cfg,
		log:       log,
		metrics:   m,
		buffers:   newBuffers(int(cfg.BodyMemory/pieceSize), m.bodyBuffers),
		refusals:  loglimit.New(log, cfg.Now),
		conns:     map[*conn]struct{}{},
		perClient: map[netip.Prefix]int{},
		lingering: make(chan struct{}, maxLingering),
	}
	s.guesses = newGuesses(&s.cfg, func() context.Context { return s.proposing })
	return s, nil
}

// Serve takes connections from the listeners until ctx ends or one of them
// fails, and closes them all. Then idle clients get 421, content under way may
// go on for the grace, and what was in doubt is taken back. It returns when no
// goroutine is left: nil after ctx has ended, else why a listener failed.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	stopProposing, stopCleaning, err := s.start(ctx)
	if err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	defer stopProposing()
	defer stopCleaning()
	defer s.refusals.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	var accepting sync.WaitGroup
	for _, listener := range listeners {
		accepting.Go(func() { stop(s.takeConnections(ctx, listener)) })
	}
	<-ctx.Done()
	failed := closeAll(listeners)
	accepting.Wait()
	s.shutDown(stopProposing, stopCleaning)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return errors.Join(cause, failed)
	}
	return failed
}

// start makes the contexts that outlive ctx in an orderly shutdown.
func (s *Server) start(ctx context.Context) (stopProposing, stopCleaning context.CancelFunc, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.served {
		return nil, nil, errors.New("smtpd: Serve was called before")
	}
	s.served = true
	s.proposing, stopProposing = context.WithCancel(context.WithoutCancel(ctx))
	s.cleaning, stopCleaning = context.WithCancel(context.WithoutCancel(ctx))
	return stopProposing, stopCleaning, nil
}

func closeAll(listeners []net.Listener) error {
	var errs []error
	for _, listener := range listeners {
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close %s: %w", listener.Addr(), err))
		}
	}
	return errors.Join(errs...)
}

// takeConnections runs until the listener is closed.
func (s *Server) takeConnections(ctx context.Context, listener net.Listener) error {
	const longest = time.Second
	for pause := 5 * time.Millisecond; ; {
		nc, err := listener.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			s.take(nc)
			continue
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the listener was closed because ctx ended
		}
		// Out of file descriptors, most likely: it passes.
		if netErr, isNet := errors.AsType[net.Error](err); !isNet || errors.Is(netErr, net.ErrClosed) {
			return fmt.Errorf("accept on %s: %w", listener.Addr(), err)
		}
		s.log.Error("connection not taken", "listener", listener.Addr().String(), "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, longest)
	}
}

// take starts the session of one connection, or refuses it.
func (s *Server) take(nc net.Conn) {
	client, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil {
		s.log.Error("connection without an IP address", "remote", nc.RemoteAddr().String())
		nc.Close()
		return
	}
	address := client.Addr().Unmap().WithZone("")
	c := newConn(nc, &s.cfg)
	if refusal := s.register(c, address); refusal != nil {
		s.turnAway(c, address, refusal)
		return
	}
	session := &session{server: s, conn: c, client: address, log: s.log.With("client", address.String())}
	s.sessions.Go(func() {
		defer func() { s.unregister(c, session.client) }()
		defer s.recoverSession(session)
		session.serve()
	})
}

// turnAway says why in passing: a new connection has room for one line, so the
// next one needn't wait.
func (s *Server) turnAway(c *conn, client netip.Addr, refusal *relay.Reply) {
	s.metrics.replies[refusal.Code/100].Inc()
	s.metrics.refused("", refusal.Code)
	if s.refusals.Admit() {
		s.log.Info("refused", "client", client.String(), "command", "", "reply", refusal.String())
	}
	c.writeReply(refusal)
	if !s.cfg.proxied(client) {
		c.close(false)
		return
	}
	// The proxy's header is there unread, and closing over it would make the kernel
	// reset the connection, reply and all.
	select {
	case s.lingering <- struct{}{}:
		s.sessions.Go(func() {
			c.close(true)
			<-s.lingering
		})
	default:
		c.close(false)
	}
}

// register counts a connection in, within the limits.
func (s *Server) register(c *conn, client netip.Addr) *relay.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := netlimit.Client(client)
	switch {
	case s.stopping:
		return shuttingDown
	case s.draining:
		return outOfService
	case len(s.conns) >= s.cfg.MaxConnections:
		s.metrics.refusedTotal.Inc()
		return tooBusy
	case s.perClient[key] >= s.cfg.MaxConnectionsPerClient && !s.cfg.proxied(client):
		s.metrics.refusedClient.Inc()
		return tooManyOfYou
	}
	s.conns[c] = struct{}{}
	s.perClient[key]++
	s.metrics.connections.Inc()
	s.metrics.connectionsTotal.Inc()
	return nil
}

// reassign counts a proxy's connection as its client's, within the client's limit.
func (s *Server) reassign(session *session, client netip.Addr) *relay.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	session.log = s.log.With("client", client.String(), "proxy", session.client.String())
	key := netlimit.Client(client)
	if s.perClient[key] >= s.cfg.MaxConnectionsPerClient {
		s.metrics.refusedClient.Inc()
		return tooManyOfYou
	}
	s.forget(session.client)
	s.perClient[key]++
	session.client = client
	return nil
}

func (s *Server) unregister(c *conn, client netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.forget(client)
	s.metrics.connections.Dec()
}

// forget counts a client's connection out.
func (s *Server) forget(client netip.Addr) {
	key := netlimit.Client(client)
	if s.perClient[key]--; s.perClient[key] == 0 {
		delete(s.perClient, key)
	}
}

// recoverSession keeps a panic within its session: the client will send the
// same to the next node, and must not bring down one after the other.
func (s *Server) recoverSession(session *session) {
	cause := recover()
	if cause == nil {
		return
	}
	s.metrics.panics.Inc()
	session.log.Error("session panicked", "cause", cause, "stack", string(debug.Stack()))
	session.reset()
	session.conn.close(false)
}

// shutDown ends the sessions and all that they have started, in this order.
func (s *Server) shutDown(stopProposing, stopCleaning context.CancelFunc) {
	for _, c := range s.stopRegistering() {
		if err := c.interrupt(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Debug("connection not interrupted", "error", err)
		}
	}
	if !waitFor(&s.sessions, s.cfg.ShutdownGrace) {
		stopProposing()
		for _, c := range s.stopRegistering() {
			if err := c.abort(); err != nil && !errors.Is(err, net.ErrClosed) {
				s.log.Debug("connection not closed", "error", err)
			}
		}
		s.sessions.Wait()
	}
	if !waitFor(&s.cleanups, cleanupGrace) {
		stopCleaning()
	}
	stopProposing()
	s.proposals.Wait()
	s.cleanups.Wait()
}

// Drain takes the front door out of service, or puts it back: new connections
// get 421, sessions end at their next command, content under way goes on. The
// listeners stay open, so that clients are told instead of left to guess.
func (s *Server) Drain(draining bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = draining
	if !draining {
		return
	}
	for c := range s.conns {
		if err := c.interrupt(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Debug("connection not interrupted", "error", err)
		}
	}
}

// Sessions is the number of connections that are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// stopRegistering lets no connection in any more and returns those that are.
func (s *Server) stopRegistering() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// waitFor reports whether the group was done in time. Its goroutine ends with
// the group, which the caller waits for in any case.
func waitFor(group *sync.WaitGroup, patience time.Duration) bool {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
