package smtpd

import (
	"crypto/tls"
	"strings"
	"time"

	"holdfast/relay"
)

// logAccepted writes one line for each message, in the words that people search
// a mail log for.
func (s *session) logAccepted(tx *transaction, delay time.Duration) {
	attributes := []any{"id", tx.body.id.String(), "helo", s.helo, "from", tx.envelope.From,
		"nrcpt", len(tx.recipients), "size", tx.body.size, "protocol", s.protocol(tx), "tls", s.tlsVersion(),
		"delay", delay}
	if s.account != nil {
		attributes = append(attributes, "account", s.account.Name)
	}
	s.log.Info("accepted", attributes...)
}

// logRefused writes one line for each command that was refused. A client that
// gives no end of them can't fill the disk: beyond so many a second they are
// only counted.
func (s *session) logRefused(r *relay.Reply) {
	s.server.metrics.refused(s.command, r.Code)
	if !s.server.refusals.Admit() {
		return
	}
	attributes := []any{"helo", s.helo, "command", s.command, "reply", r.String(), "tls", s.tlsVersion()}
	if s.claimed != "" {
		attributes = append(attributes, "account", s.claimed)
	}
	if tx := s.within; tx != nil {
		attributes = append(attributes, "from", tx.envelope.From, "nrcpt", len(tx.recipients))
		if tx.body != nil {
			attributes = append(attributes, "id", tx.body.id.String())
		}
	}
	s.log.Info("refused", attributes...)
}

// describeCommand is a command as the log shows it: with an address for MAIL and
// RCPT, else its verb alone, since what follows may be a secret. So may a line
// without a verb: a client that ignores a refusal of AUTH LOGIN sends its password
// next.
func describeCommand(line []byte) string {
	const most = 512
	verb, rest, _ := strings.Cut(string(line[:min(len(line), most)]), " ")
	verb = strings.ToUpper(verb)
	switch verb {
	case "MAIL", "RCPT":
		return strings.ToValidUTF8(verb+" "+rest, "?")
	case "EHLO", "HELO", "DATA", "BDAT", "STARTTLS", "AUTH", "NOOP", "HELP", "VRFY",
		"EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML", "RSET", "QUIT":
		return verb
	}
	return "?"
}

// tlsVersion is "TLS1.3" and so on, "" in plain text.
func (s *session) tlsVersion() string {
	secured, ok := s.conn.nc.(*tls.Conn)
	if !ok {
		return ""
	}
	return strings.ReplaceAll(tls.VersionName(secured.ConnectionState().Version), " ", "")
}
