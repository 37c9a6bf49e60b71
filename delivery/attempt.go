package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// errLeaseLost keeps the last byte of a message from going out: another node
// may be about to deliver it.
var errLeaseLost = errors.New("this node's lease ended")

// attempt is one try for one message at one destination.
type attempt struct {
	queue  string
	grant  fsm.Grant
	id     relay.MessageID
	number uint64
	probe  bool
	probes uint64 // the probe number that this attempt answers
	hosts  []string
	level  relay.TLS

	mu      sync.Mutex // guards conn, aborted and cancel
	conn    *smtpout.Conn
	aborted bool
	cancel  context.CancelFunc

	// Set by carry, read after it.
	started, ended time.Time
	message        *pb.MessageRecord
	recipients     []*pb.RecipientRecord // those of the claim
	result         smtpout.Result
	failure        *relay.Failure // no transaction took place
	failedHosts    []string
	skipped        bool // nothing was tried: the claim is gone, or the message
}

func (s *Scheduler) startAttempt(q *queue, grant fsm.Grant) {
	ctx, cancel := context.WithTimeout(s.attempts, attemptTimeout)
	a := &attempt{
		queue: q.name, grant: grant, id: relay.MessageID(grant.Record.MessageId),
		number: grant.Claim.Attempt, probe: grant.Record.Probe,
		probes: q.record.Health.Probes, cancel: cancel,
		hosts: q.hosts.order(q.record.Config.Hosts, s.cfg.Now(), s.cfg.Chance),
		level: relay.TLS(q.record.Config.Tls),
		conn:  q.takeConn(),
	}
	q.running[a.number] = a
	s.running++
	s.metrics.running.Inc()
	s.start(func() func() {
		defer cancel()
		a.started = s.cfg.Now()
		s.carry(ctx, a)
		a.ended = s.cfg.Now()
		return func() { s.judge(a) }
	})
}

// abortUnlessCommitted resets the connection of an attempt that hasn't sent its
// last byte; one that has waits for its reply.
func (a *attempt) abortUnlessCommitted() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil && !a.conn.AbortUnlessCommitted() {
		return
	}
	a.aborted = true
	a.cancel()
}

// carry makes the attempt and leaves what came of it in a.
func (s *Scheduler) carry(ctx context.Context, a *attempt) {
	transaction, err := s.transaction(a)
	if err != nil {
		if !errors.Is(err, fsm.ErrNotFound) {
			s.log.Error("attempt", "id", a.id, "error", err)
		}
		a.skipped = true
		return
	}
	if !s.holds(a) {
		a.skipped = true
		return
	}
	if a.conn != nil {
		a.result = a.conn.Send(ctx, transaction)
		// The peer had closed the kept connection: that says nothing of it.
		if !a.result.Stale || inDoubt(a.result) {
			return
		}
		a.setConn(nil)
	}
	conn, failure := s.connect(ctx, a)
	if failure != nil {
		a.failure = failure
		return
	}
	if !a.setConn(conn) {
		conn.Abort()
		a.skipped = true
		return
	}
	a.result = conn.Send(ctx, transaction)
}

// setConn makes a connection the attempt's, unless that was aborted meanwhile.
func (a *attempt) setConn(conn *smtpout.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn = conn
	return !a.aborted
}

// holds asks, right before anything is sent, whether the claim still stands.
func (s *Scheduler) holds(a *attempt) bool {
	return s.cfg.Lease.Leased() && s.cfg.State.HoldsClaim(a.grant.Claim)
}

// connect tries the destination's hosts in turn.
func (s *Scheduler) connect(ctx context.Context, a *attempt) (*smtpout.Conn, *relay.Failure) {
	var failure *relay.Failure
	for _, host := range a.hosts {
		conn, err := s.cfg.Dialer.Connect(ctx, host, a.level)
		if f := asFailure(err); f != nil && a.level == relay.TLSOpportunistic && f.Phase == relay.PhaseTLS {
			// RFC 7435: encryption that fails is no worse than none that was asked for.
			conn, err = s.cfg.Dialer.Connect(ctx, host, relay.TLSNone)
		}
		if err == nil {
			return conn, nil
		}
		failure = asFailure(err)
		a.failedHosts = append(a.failedHosts, host)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failure
}

func asFailure(err error) *relay.Failure {
	var failure *relay.Failure
	if errors.As(err, &failure) {
		return failure
	}
	return nil
}

// transaction reads what is to be sent from the state.
func (s *Scheduler) transaction(a *attempt) (smtpout.Transaction, error) {
	view, err := s.cfg.State.View()
	if err != nil {
		return smtpout.Transaction{}, err
	}
	defer view.Close()
	m, err := view.Message(a.id)
	if err != nil {
		return smtpout.Transaction{}, fmt.Errorf("message %s: %w", a.id, err)
	}
	a.message = m
	t := smtpout.Transaction{
		From: m.Envelope.GetFrom(), BodyType: bodyType(m.Envelope.GetBodyType()),
		SMTPUTF8: m.Envelope.GetSmtputf8(), Ret: m.Envelope.GetRet(), EnvID: m.Envelope.GetEnvid(),
		Size: int64(m.Content.GetSize()),
		Body: func() (io.ReadCloser, error) { return s.openBody(a.id) },
	}
	for _, number := range a.grant.Record.Recipients {
		rec, err := view.Recipient(a.id, number)
		if err != nil {
			return smtpout.Transaction{}, fmt.Errorf("recipient %d of %s: %w", number, a.id, err)
		}
		a.recipients = append(a.recipients, rec)
		t.Recipients = append(t.Recipients, smtpout.Recipient{
			Address: rec.Recipient.GetAddress(), Notify: rec.Recipient.GetNotify(), ORcpt: rec.Recipient.GetOrcpt(),
		})
	}
	return t, nil
}

func bodyType(t pb.BodyType) smtpout.BodyType {
	switch t {
	case pb.BodyType_BODY_TYPE_7BIT:
		return smtpout.Body7Bit
	case pb.BodyType_BODY_TYPE_8BITMIME:
		return smtpout.Body8BitMIME
	case pb.BodyType_BODY_TYPE_BINARYMIME:
		return smtpout.BodyBinaryMIME
	}
	return smtpout.BodyUnspecified
}

// leasedBody ends in an error instead of io.EOF where the lease is gone by then:
// the client sends its last byte only after io.EOF. A process that was paused
// finds out here, however long ago it read the rest.
type leasedBody struct {
	io.ReadCloser
	lease Lease
}

func (b leasedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !b.lease.Leased() {
		return n, errLeaseLost
	}
	return n, err
}

func (s *Scheduler) openBody(id relay.MessageID) (io.ReadCloser, error) {
	body, _, err := s.cfg.State.Body(id)
	if err != nil {
		return nil, err
	}
	return leasedBody{ReadCloser: body, lease: s.cfg.Lease}, nil
}
