package sink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// Server is a running sink.
type Server struct {
	config   Config
	listener net.Listener
	tls      *tls.Config // nil without STARTTLS
	roots    *x509.CertPool
	answer   atomic.Pointer[func(Step) Reply]
	maxSize  int64 // 0 for no limit
	record   record
	closing  chan struct{} // closed by Close: held replies end
	running  sync.WaitGroup

	mu    sync.Mutex // guards all below
	conns map[net.Conn]struct{}
	shut  bool
}

// Start listens and serves until Close.
func Start(config Config) (*Server, error) {
	if err := config.fill(); err != nil {
		return nil, err
	}
	s := &Server{
		config:  config,
		record:  record{ids: make(map[string]int)},
		closing: make(chan struct{}),
		conns:   make(map[net.Conn]struct{}),
	}
	s.SetAnswer(config.Answer)
	if limit, ok := config.offers("SIZE"); ok && limit != "" {
		if _, err := fmt.Sscanf(limit, "%d", &s.maxSize); err != nil {
			return nil, fmt.Errorf("sink: size limit %q is not a number", limit)
		}
	}
	if config.STARTTLS {
		var err error
		if s.tls, s.roots, err = selfSigned(config.Hostname); err != nil {
			return nil, fmt.Errorf("sink: certificate: %w", err)
		}
	}
	listener, err := net.Listen("tcp", config.Address)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	s.listener = listener
	s.running.Go(s.accept)
	return s, nil
}

// Addr is the host:port that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Roots is a pool in which the server's certificate verifies; nil without
// STARTTLS.
func (s *Server) Roots() *x509.CertPool { return s.roots }

// SetAnswer replaces Config.Answer from the next step on; nil answers as
// RFC 5321 says.
func (s *Server) SetAnswer(answer func(Step) Reply) {
	if answer == nil {
		answer = func(Step) Reply { return Reply{} }
	}
	s.answer.Store(&answer)
}

// Disconnect closes all open connections without a word; new ones are
// accepted.
func (s *Server) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}

// Close stops listening, closes all connections, lets go of held replies and
// waits for its goroutines. Closing again does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.shut {
		s.mu.Unlock()
		s.running.Wait()
		return nil
	}
	s.shut = true
	close(s.closing)
	s.mu.Unlock()
	err := s.listener.Close()
	s.Disconnect()
	s.running.Wait()
	return err
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // out of descriptors or a client gone at once: the next may do
		}
		if tcp, ok := conn.(*net.TCPConn); ok && s.config.ReadBuffer > 0 {
			if tcp.SetReadBuffer(s.config.ReadBuffer) != nil {
				conn.Close() // reset already
				continue
			}
		}
		if !s.keep(conn) {
			conn.Close()
			return
		}
		number, _ := s.record.opened()
		s.running.Go(func() {
			session := newSession(s, conn, number)
			session.serve()
			s.forget(conn)
			session.leave()
		})
	}
}

func (s *Server) keep(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) forget(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
}
