package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// errLeaseLost keeps the last byte of a message from going out: another node
// may be about to deliver it.
var errLeaseLost = errors.New("this node's lease or claim ended")

// errTooLong ends an attempt that holds a slot for Timing.Attempt.
var errTooLong = errors.New("the attempt took too long")

// attempt is one try for one message at one destination.
type attempt struct {
	queue   string
	lane    fsm.Lane
	grant   fsm.Grant
	id      relay.MessageID
	number  uint64
	probe   bool
	probes  uint64 // the probe number that this attempt answers
	config  *pb.DestinationConfig
	trouble hostTrouble // as of its start
	// revision of config, to tell connections made under an earlier one
	revision int

	mu      sync.Mutex // guards conn, aborted and cancel
	conn    *smtpout.Conn
	aborted bool
	cancel  context.CancelFunc

	// Set by carry, read after it.
	started, ended time.Time
	message        *pb.MessageRecord
	recipients     []*pb.RecipientRecord // those of the claim
	result         smtpout.Result
	failure        *relay.Failure               // no transaction took place
	hosts          []*pb.DestinationConfig_Host // by MX; nil where a kept connection was good
	failedHosts    []string
	unfitHosts     []string       // that lack what the message needs
	unfit          smtpout.Result // of the latest of them
	hostsLeft      bool           // some were not asked that may have it
	skipped        bool           // nothing was tried: the claim is gone, or the message
	copies         copies         // of a body that couldn't be read here
}

func (s *Scheduler) startAttempt(q *queue, l fsm.Lane, grant fsm.Grant) {
	ctx, cancel := context.WithTimeoutCause(s.attempts, s.cfg.Timing.Attempt, errTooLong)
	a := &attempt{
		queue: q.name, lane: l, grant: grant, id: relay.MessageID(grant.Record.MessageId),
		number: grant.Claim.Attempt, probe: grant.Record.Probe,
		probes: q.record.Health.Probes, cancel: cancel,
		config: q.record.Config, trouble: maps.Clone(q.hosts), revision: q.revision,
		conn: q.takeConn(),
	}
	q.running[a.number] = a
	q.askedLast = false
	q.lanes[l].running++
	s.unkeep(q, l)
	s.running[l]++
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
	if len(a.recipients) == 0 || !s.holds(a) {
		a.skipped = true
		return
	}
	s.reach(ctx, a, func(conn *smtpout.Conn) smtpout.Result { return conn.Send(ctx, transaction) })
	s.lookIntoBody(a)
}

// reach says what is to be said over the kept connection, or else to one host after
// another.
func (s *Scheduler) reach(ctx context.Context, a *attempt, say func(*smtpout.Conn) smtpout.Result) {
	if a.conn != nil && a.said(a.conn, say) {
		a.hostsLeft = a.config.Mx != "" || len(a.config.Hosts) > 1
		return
	}
	hosts, failure := s.hostsOf(ctx, a)
	if failure != nil {
		a.failure = failure
		a.fallBack(hosts)
		return
	}
	for _, host := range hosts {
		if slices.Contains(a.failedHosts, host) || slices.Contains(a.unfitHosts, host) {
			continue
		}
		begin := s.cfg.Now()
		conn, failure := connect(ctx, s.cfg.Dialer, host, a.config)
		s.metrics.connected(failure, s.cfg.Now().Sub(begin))
		if failure != nil {
			a.failure = failure
			if isShort(failure) {
				return
			}
			// The next attempt goes elsewhere first where the time was over at the first host.
			if ctx.Err() == nil || errors.Is(context.Cause(ctx), errTooLong) && len(a.failedHosts) == 0 {
				a.failedHosts = append(a.failedHosts, host)
			}
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if !a.setConn(conn) {
			conn.Abort()
			a.skipped = true
			return
		}
		if a.said(conn, say) {
			a.hostsLeft = slices.ContainsFunc(hosts, func(other string) bool {
				return other != host && !slices.Contains(a.unfitHosts, other)
			})
			return
		}
	}
	a.fallBack(hosts)
	if a.failure == nil && len(a.result.Outcomes) == 0 {
		a.failure = &relay.Failure{
			Cause: relay.CauseDNS, Phase: relay.PhaseDNS, Text: "the destination has no host", At: s.cfg.Now(),
		}
	}
}

// fallBack makes it the result where no host took the message, and some lack what it
// needs: those are up, and say nothing of the destination. It is final only where no
// other host is left, whose failure may be over by the next attempt.
func (a *attempt) fallBack(hosts []string) {
	if len(a.unfitHosts) == 0 {
		return
	}
	a.hostsLeft = a.failure != nil || slices.ContainsFunc(hosts, func(host string) bool { return !slices.Contains(a.unfitHosts, host) })
	a.failure, a.result = nil, a.unfit
}

// said is false where another host is to be tried: this one says no to everybody, or
// lacks what the message needs, or it had closed the kept connection, which says
// nothing of it.
func (a *attempt) said(conn *smtpout.Conn, say func(*smtpout.Conn) smtpout.Result) bool {
	a.failure, a.result = nil, say(conn)
	switch {
	case isUnfit(a.result):
		if a.config.Mx == "" && len(a.config.Hosts) == 1 {
			return true // there is no other, and nothing is wrong with the connection
		}
		a.unfit = a.result
		a.unfitHosts = append(a.unfitHosts, a.result.Host)
	case !a.result.Stale && a.hostFailure() == nil, inDoubt(a.result), a.wasInterrupted():
		return true
	case !a.result.Stale:
		a.failedHosts = append(a.failedHosts, a.result.Host)
	}
	a.setConn(nil)
	conn.Abort()
	return false
}

// isUnfit: the host lacks what it needs for any of the recipients.
func isUnfit(result smtpout.Result) bool {
	return len(result.Outcomes) > 0 && !slices.ContainsFunc(result.Outcomes, func(o smtpout.Outcome) bool {
		return o.Failure == nil || !errors.Is(o.Failure, smtpout.ErrUnfit)
	})
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

// hostsOf lists the hosts of the attempt's destination in the order in which
// they are to be tried.
func (s *Scheduler) hostsOf(ctx context.Context, a *attempt) ([]string, *relay.Failure) {
	hosts := a.config.Hosts
	if a.config.Mx != "" {
		found, err := s.cfg.Dialer.LookupMX(ctx, a.config.Mx)
		if err != nil {
			return nil, asFailure(err)
		}
		for _, h := range found {
			a.hosts = append(a.hosts, &pb.DestinationConfig_Host{Address: h.Address, Priority: h.Priority, Weight: h.Weight})
		}
		hosts = a.hosts
	}
	return a.trouble.order(hosts, a.started, s.cfg.Chance), nil
}

// connect opens a connection to one host of a destination.
func connect(ctx context.Context, dialer *smtpout.Dialer, host string, config *pb.DestinationConfig) (*smtpout.Conn, *relay.Failure) {
	level := relay.TLS(config.Tls)
	var login *smtpout.Login
	if config.AuthUser != "" {
		login = &smtpout.Login{User: config.AuthUser, Password: config.AuthPassword}
	}
	conn, err := dialer.Connect(ctx, host, level, login)
	if f := asFailure(err); f != nil && level == relay.TLSOpportunistic && f.Phase == relay.PhaseTLS && login == nil {
		// RFC 7435: encryption that fails is no worse than none that was asked for.
		conn, err = dialer.Connect(ctx, host, relay.TLSNone, nil)
	}
	return conn, asFailure(err)
}

func asFailure(err error) *relay.Failure {
	var failure *relay.Failure
	if errors.As(err, &failure) {
		return failure
	}
	return nil
}

// transaction reads what is to be sent from the state. A recipient may have ended since
// the grant, by a delivery of an earlier claim that was told late: it is left out, and
// out of the attempt's grant.
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
		Body: func() (io.ReadCloser, error) { return s.openBody(a) },
	}
	still := proto.CloneOf(a.grant.Record)
	still.Recipients = nil
	var records []*pb.RecipientRecord
	for _, number := range a.grant.Record.Recipients {
		rec, err := view.Recipient(a.id, number)
		if err != nil {
			return smtpout.Transaction{}, fmt.Errorf("recipient %d of %s: %w", number, a.id, err)
		}
		if !proto.Equal(rec.Claim, a.grant.Claim) {
			continue
		}
		still.Recipients = append(still.Recipients, number)
		records = append(records, rec)
		t.Recipients = append(t.Recipients, smtpout.Recipient{
			Address: rec.Recipient.GetAddress(), Notify: rec.Recipient.GetNotify(), ORcpt: rec.Recipient.GetOrcpt(),
		})
	}
	a.grant.Record, a.recipients = still, records // else all of the grant is given back
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

// leasedBody ends in an error instead of io.EOF where the lease or the claim is
// gone by then: the client sends its last byte only after io.EOF. A process that
// was paused finds out here, however long ago it read the rest.
type leasedBody struct {
	io.ReadCloser
	holds func() bool
}

func (b leasedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !b.holds() {
		return n, errLeaseLost
	}
	return n, err
}

func (s *Scheduler) openBody(a *attempt) (io.ReadCloser, error) {
	body, _, err := s.cfg.State.Body(a.id)
	if err != nil {
		return nil, err
	}
	return leasedBody{ReadCloser: body, holds: func() bool { return s.holds(a) }}, nil
}
