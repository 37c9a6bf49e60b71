package smtpd

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strconv"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Why a session is over, besides the errors of its conn.
var (
	errClose = errors.New("closing") // the last reply is given
	errQuit  = errors.New("client has quit")
	errTLS   = errors.New("no TLS")
)

// session is the state machine of one connection (RFC 5321 section 4.1.4).
type session struct {
	server *Server
	conn   *conn
	log    *slog.Logger
	client netip.Addr

	helo     string            // "" before EHLO or HELO
	extended bool              // it was EHLO
	secured  bool              // under TLS
	offered  bool              // AUTH, by the EHLO
	account  *pb.AccountRecord // that the client authenticated as, nil where it didn't
	wrong    int               // passwords
	tx       *transaction
	errors   int // since the last message, and commands likewise
	commands int

	// What is being answered, for the log.
	command string
	within  *transaction // that the command came in, nil for none
	claimed string       // the account's name, for AUTH
}

// serve runs the dialogue until either side ends it.
func (s *session) serve() {
	err := s.introduce()
	if err == nil {
		s.reply(reply(220, "", s.server.cfg.Hostname+" ESMTP Holdfast"))
		err = s.dialogue()
	}
	s.reset()
	linger := s.farewell(err)
	s.conn.close(linger)
}

func (s *session) dialogue() error {
	for {
		if s.conn.isStopping() {
			return errStopping
		}
		line, err := s.conn.readLine()
		switch {
		case err == nil:
		case errors.Is(err, errLineTooLong) && s.conn.broken == nil:
			err = s.answer(lineTooLong, nil)
			if err != nil {
				return err
			}
			continue
		default:
			return err
		}
		if err := s.answer(s.handle(line)); err != nil {
			return err
		}
	}
}

// answer gives a reply, counts refusals, and says whether the session is over.
func (s *session) answer(r *relay.Reply, err error) error {
	if r != nil {
		s.reply(r)
		if s.within != nil && s.tx == nil {
			// It has ended a transaction. What it ended with isn't kept back until the commands
			// that follow in the buffer are answered: they may wait long for a destination or a
			// quorum, and a client that never saw its 250 sends the message again.
			s.conn.flush()
		}
		if r.Code == 421 {
			s.logRefused(r)
			return errClose
		}
		if r.Code >= 400 {
			s.logRefused(r)
		}
		if r.Code >= 500 {
			s.errors++
		}
	}
	if err != nil {
		return err
	}
	if s.errors >= s.server.cfg.MaxErrors {
		return s.answer(tooManyErrors, nil)
	}
	if s.commands++; s.commands > s.server.cfg.MaxCommands {
		return s.answer(tooMuchTalk, nil)
	}
	return nil
}

func (s *session) reply(r *relay.Reply) {
	s.server.metrics.replies[r.Code/100].Inc()
	s.conn.writeReply(r)
}

// farewell gives the last reply where the client doesn't know yet why the
// session is over, and reports whether it may still be sending.
func (s *session) farewell(err error) (linger bool) {
	switch {
	case errors.Is(err, errClose):
		return true
	case errors.Is(err, errBareLF):
		s.refuseAndEnd(bareLF)
		return true
	case errors.Is(err, errWrite), errors.Is(err, errQuit), errors.Is(err, errTLS):
		return false
	case s.conn.isStopping() && !s.conn.inContent:
		s.reply(shuttingDown)
		return true
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.refuseAndEnd(timedOut)
		return true
	case errors.Is(err, errLineTooLong):
		s.refuseAndEnd(lineTooLong)
		return true
	}
	if !errors.Is(err, io.EOF) {
		s.log.Debug("connection lost", "error", err)
	}
	return false
}

func (s *session) refuseAndEnd(r *relay.Reply) {
	s.reply(r)
	s.logRefused(r)
}

// handle carries out one command. The reply is nil where it is given already;
// an error ends the session after it.
func (s *session) handle(line []byte) (*relay.Reply, error) {
	s.command, s.within, s.claimed = describeCommand(line), s.tx, ""
	verb, rest, refusal := splitCommand(line)
	if refusal != nil {
		return refusal, nil
	}
	switch verb {
	case "EHLO", "HELO":
		return s.hello(verb == "EHLO", rest), nil
	case "MAIL":
		return s.mail(rest), nil
	case "RCPT":
		return s.rcpt(rest), nil
	case "DATA":
		return s.data(rest)
	case "BDAT":
		return s.bdat(rest)
	case "STARTTLS":
		return s.startTLS(rest)
	case "AUTH":
		return s.auth(rest)
	case "NOOP":
		return ok, nil
	case "HELP":
		return reply(214, "2.0.0", "see RFC 5321"), nil
	case "VRFY":
		return s.vrfy(rest), nil
	case "EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML":
		return reply(502, "5.5.1", "command isn't implemented"), nil
	case "RSET":
		return s.rset(rest), nil
	case "QUIT":
		return s.quit(rest)
	}
	return reply(500, "5.5.1", "unknown command"), nil
}

// hello also ends a transaction under way (RFC 5321 section 4.1.4).
func (s *session) hello(extended bool, rest string) *relay.Reply {
	helo, refusal := parseHello(rest)
	if refusal != nil {
		return refusal
	}
	s.reset()
	s.helo, s.extended, s.offered = helo, extended, extended && s.offersAuth()
	if !extended {
		return reply(250, "", s.server.cfg.Hostname)
	}
	lines := []string{
		s.server.cfg.Hostname,
		"PIPELINING",
		"8BITMIME",
		"SMTPUTF8",
		"ENHANCEDSTATUSCODES",
		"CHUNKING",
		"SIZE " + strconv.FormatInt(s.server.cfg.messageSize(), 10),
		"DSN",
		"LIMITS RCPTMAX=" + strconv.Itoa(s.server.cfg.MaxRecipients),
	}
	if s.server.cfg.TLS != nil && !s.secured {
		lines = append(lines, "STARTTLS")
	}
	if s.offered {
		lines = append(lines, "AUTH "+mechanisms)
	}
	s.server.metrics.replies[2].Inc()
	s.conn.writeLines(250, "", lines...)
	return nil
}

func (s *session) mail(rest string) *relay.Reply {
	if s.helo == "" || s.tx != nil {
		return badSequence
	}
	// What EHLO offered holds, whatever becomes of the accounts: until the gate is
	// asked nothing is refused because of the state.
	envelope, size, refusal := parseMail(rest, s.offered)
	if refusal != nil {
		return refusal
	}
	if closed := s.server.cfg.Gate.Check(); closed != nil {
		return closed
	}
	if !s.stillGood() {
		return accountChanged
	}
	if s.server.overloaded() {
		return notNow
	}
	if size > s.server.cfg.messageSize() {
		return tooLarge
	}
	s.tx = &transaction{
		envelope: envelope,
		declared: size,
		size:     envelopeBase + len(envelope.From) + len(envelope.Envid),
	}
	return reply(250, "2.1.0", "sender ok")
}

func (s *session) rcpt(rest string) *relay.Reply {
	tx := s.tx
	if tx == nil || tx.body != nil {
		return badSequence
	}
	recipient, refusal := parseRcpt(rest, tx.envelope.Smtputf8)
	if refusal != nil {
		return refusal
	}
	refusal = s.admit(recipient)
	if refusal == nil {
		refusal = tx.add(recipient, s.server.cfg.MaxRecipients)
	}
	if refusal != nil {
		tx.deferred = tx.deferred || refusal.Temporary()
		return refusal
	}
	return RecipientTaken()
}

// startTLS is RFC 3207. Whatever came in plain text is forgotten after it, and
// nothing sent ahead of the handshake is taken for a part of what follows.
func (s *session) startTLS(rest string) (*relay.Reply, error) {
	switch {
	case s.server.cfg.TLS == nil:
		return reply(502, "5.5.1", "TLS isn't offered here"), nil
	case s.secured || s.tx != nil:
		return badSequence, nil
	case rest != "":
		return reply(501, "5.5.4", "STARTTLS takes no argument"), nil
	case s.conn.br.Buffered() > 0:
		return reply(503, "5.5.1", "nothing may be sent after STARTTLS until the reply, closing the connection"), errClose
	}
	s.reply(reply(220, "2.0.0", "ready for TLS"))
	if err := s.conn.startTLS(s.server.cfg.TLS); err != nil {
		s.server.metrics.tlsFailures.Inc()
		s.log.Debug("TLS handshake failed", "error", err)
		return nil, errTLS
	}
	s.secured, s.helo, s.extended, s.offered = true, "", false, false
	return nil, nil
}

// vrfy neither confirms nor denies (RFC 5321 section 7.3).
func (s *session) vrfy(rest string) *relay.Reply {
	if rest == "" {
		return reply(501, "5.5.4", "want an address")
	}
	return reply(252, "2.0.0", "send mail and see")
}

func (s *session) rset(rest string) *relay.Reply {
	if rest != "" {
		return reply(501, "5.5.4", "RSET takes no argument")
	}
	s.reset()
	return ok
}

func (s *session) quit(rest string) (*relay.Reply, error) {
	if rest != "" {
		return reply(501, "5.5.4", "QUIT takes no argument"), nil
	}
	return reply(221, "2.0.0", "goodbye"), errQuit
}

// reset ends the transaction, if there is one, and drops what came of its body.
func (s *session) reset() {
	if s.tx != nil && s.tx.body != nil {
		s.tx.body.drop()
	}
	s.tx = nil
}
