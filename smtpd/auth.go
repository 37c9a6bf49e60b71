package smtpd

import (
	"encoding/base64"
	"errors"
	"strings"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// mechanisms are those of EHLO. Both send the password itself, so they are offered
// under TLS alone (RFC 4954 section 4); LOGIN is for clients that know no other.
const mechanisms = "PLAIN LOGIN"

// offersAuth reports whether EHLO has AUTH. While there is no account it hasn't:
// nobody could authenticate, and who guesses passwords would try.
func (s *session) offersAuth() bool {
	return s.secured && s.server.cfg.Directory.HasAccounts()
}

// auth is RFC 4954. An error ends the session.
func (s *session) auth(rest string) (*relay.Reply, error) {
	mechanism, initial, given := strings.Cut(rest, " ")
	mechanism = strings.ToUpper(mechanism)
	// Before the accounts are looked at: see admit.
	closed := s.server.cfg.Gate.Check()
	switch {
	case s.server.cfg.TLS == nil:
		return authNotHere, nil
	case !s.secured:
		return needsTLS, nil
	case closed != nil:
		return s.cantJudge(closed), nil
	case !s.server.cfg.Directory.HasAccounts():
		return authNotHere, nil
	case !s.extended || s.tx != nil || s.account != nil:
		return badSequence, nil
	case mechanism == "":
		return reply(501, "5.5.4", "want AUTH "+strings.ReplaceAll(mechanisms, " ", " or AUTH ")), nil
	case mechanism != "PLAIN" && mechanism != "LOGIN":
		return reply(504, "5.5.4", "mechanism isn't offered, "+mechanisms+" are"), nil
	}
	var claimed credentials
	var refusal *relay.Reply
	var err error
	if mechanism == "PLAIN" {
		claimed, refusal, err = s.plain(strings.TrimLeft(initial, " "), given)
	} else {
		claimed, refusal, err = s.login(strings.TrimLeft(initial, " "), given)
	}
	if refusal != nil || err != nil {
		return refusal, err
	}
	return s.authenticate(claimed)
}

// credentials are what a client says it is, and how it proves that.
type credentials struct{ name, password string }

var errPlain = errors.New("not a PLAIN message")

// plain is RFC 4616. Its challenge is empty.
func (s *session) plain(initial string, given bool) (credentials, *relay.Reply, error) {
	message, refusal, err := s.response("", initial, given)
	if refusal != nil || err != nil {
		return credentials{}, refusal, err
	}
	claimed, wrong := parsePlain(message)
	if wrong != nil {
		return credentials{}, reply(501, "5.5.2", "malformed authentication"), nil
	}
	return claimed, nil, nil
}

// parsePlain reads [authzid] NUL authcid NUL passwd. Nobody acts for another: an
// authorization identity is the account itself, or empty.
func parsePlain(message string) (credentials, error) {
	parts := strings.Split(message, "\x00")
	if len(parts) != 3 {
		return credentials{}, errPlain
	}
	claimed := credentials{name: parts[1], password: parts[2]}
	if parts[0] != "" && parts[0] != parts[1] {
		claimed.name = "" // nobody's: it is refused as any wrong name is
	}
	return claimed, nil
}

// login is draft-murchison-sasl-login: two questions, of which the first may be
// answered ahead.
func (s *session) login(initial string, given bool) (credentials, *relay.Reply, error) {
	name, refusal, err := s.response("Username:", initial, given)
	if refusal != nil || err != nil {
		return credentials{}, refusal, err
	}
	password, refusal, err := s.response("Password:", "", false)
	return credentials{name, password}, refusal, err
}

// response is a client's answer to a challenge, the initial one where it gave that
// with the command.
func (s *session) response(challenge, initial string, given bool) (string, *relay.Reply, error) {
	encoded := initial
	if given && initial == "=" {
		// RFC 4954 section 4: an initial response that is there, and empty. In an
		// answer to a challenge it is no base64.
		encoded = ""
	}
	if !given {
		s.reply(reply(334, "", base64.StdEncoding.EncodeToString([]byte(challenge))))
		line, err := s.conn.readLine()
		switch {
		case errors.Is(err, errLineTooLong) && s.conn.broken == nil:
			return "", reply(500, "5.5.6", "authentication exchange line is too long"), nil
		case err != nil:
			return "", nil, err
		}
		encoded = string(line)
		if encoded == "*" {
			return "", reply(501, "5.7.0", "authentication cancelled"), nil
		}
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", reply(501, "5.5.2", "not base64"), nil
	}
	return string(decoded), nil, nil
}

// authenticate judges a client's credentials. A name that isn't there and a
// password that is wrong get the same answer in the same time.
func (s *session) authenticate(claimed credentials) (*relay.Reply, error) {
	name, proper := relay.AccountName(claimed.name)
	s.claimed = name
	if !proper {
		s.claimed = "?" // whatever it is, a password perhaps: not for the log
	}
	var account *pb.AccountRecord
	var closed *relay.Reply
	right, judged := s.server.guesses.judge(s.client, claimed.password, func() (string, bool) {
		if closed = s.server.cfg.Gate.Check(); closed != nil {
			return "", false
		}
		account, _ = s.server.cfg.Directory.Account(name)
		return account.GetPasswordHash(), true
	})
	switch {
	case closed != nil:
		return s.cantJudge(closed), nil
	case !judged:
		s.server.metrics.authentications.busy.Inc()
		return authBusy, nil
	case right:
		s.server.metrics.authentications.good.Inc()
		s.account = account
		s.log.Info("authenticated", "account", account.Name, "helo", s.helo, "tls", s.tlsVersion())
		return reply(235, "2.7.0", "authenticated"), nil
	}
	s.server.metrics.authentications.bad.Inc()
	if s.wrong++; s.wrong >= s.server.cfg.MaxGuesses {
		return tooManyGuesses, errClose
	}
	return authFailed, nil
}

// cantJudge puts a client off while the gate is closed: without the agreed state
// nothing is refused for good (RFC 4954 section 6 has 454 for that).
func (s *session) cantJudge(closed *relay.Reply) *relay.Reply {
	s.server.metrics.authentications.busy.Inc()
	return reply(454, "4.7.0", "can't authenticate now: "+closed.Text)
}

// stillGood reports whether the account that the client authenticated as is there
// with the same password. It is asked for each message, so a removal reaches
// sessions that are open.
func (s *session) stillGood() bool {
	if s.account == nil {
		return true
	}
	now, known := s.server.cfg.Directory.Account(s.account.Name)
	return known && now.Revision == s.account.Revision
}

// checkAuthParameter reads AUTH= of MAIL (RFC 4954 section 5): a mailbox in xtext, or
// <>. Nobody here is trusted to say who sent a message first, so it isn't kept,
// which is as if it were <>.
func checkAuthParameter(value string) *relay.Reply {
	if value == "" {
		return reply(501, "5.5.4", "AUTH wants a value")
	}
	if value == "<>" {
		return nil
	}
	mailbox, ok := decodeXtext(value)
	if !ok || relay.DomainOf(mailbox) == "" {
		return reply(501, "5.5.4", "AUTH wants a mailbox or <>")
	}
	return nil
}
