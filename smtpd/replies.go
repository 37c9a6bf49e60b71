package smtpd

import "holdfast/relay"

// RecipientTaken is the answer to RCPT for a recipient that is taken.
func RecipientTaken() *relay.Reply { return reply(250, "2.1.5", "recipient ok") }

// NotConfigured is the answer to every RCPT while there is no domain.
func NotConfigured() *relay.Reply { return notConfigured }

// reply is short for a Reply, of which a session writes many.
func reply(code int, enhanced, text string) *relay.Reply {
	return &relay.Reply{Code: code, Enhanced: enhanced, Text: text}
}

// The replies of the contract, and others that are given in several places.
// They are never changed.
var (
	ok             = reply(250, "2.0.0", "ok")
	notNow         = reply(451, "4.3.2", "can't take mail now, try again later")
	notConfigured  = reply(451, "4.3.2", "no domain is configured yet, try again later")
	relayDenied    = reply(550, "5.7.1", "no mail is relayed for this domain")
	noDefaultRoute = reply(550, "5.7.1", "no mail is relayed for this domain: neither it nor the domain * for all others is configured")
	noPostmaster   = reply(550, "5.1.1", "this relay has no postmaster mailbox: name a domain")
	tooLarge       = reply(552, "5.3.4", "message is larger than this server takes")
	tooManyRcpts   = reply(452, "4.5.3", "too many recipients, send the rest in another message")
	domainTooSmall = reply(552, "5.3.4", "message is as large as all that this domain may hold")
	domainFull     = reply(452, "4.2.2", "too much mail is held for this domain, try again later")
	noMemory       = reply(452, "4.3.1", "too much mail is arriving, try again later")
	mailLoop       = reply(554, "5.4.6", "more than 50 Received headers: the message is in a loop")
	bareLineEnd    = reply(554, "5.6.0", "message has a bare CR or a bare LF")
	badSequence    = reply(503, "5.5.1", "bad sequence of commands")
	authNotHere    = reply(502, "5.5.1", "AUTH isn't offered here")
	needsTLS       = reply(538, "5.7.11", "AUTH needs TLS: say STARTTLS first")
	authFailed     = reply(535, "5.7.8", "wrong account or password")
	authBusy       = reply(454, "4.7.0", "too many authentications at once, try again later")
	needsSMTPUTF8  = reply(553, "5.6.7", "address needs SMTPUTF8")
	lineTooLong    = reply(500, "5.5.2", "line is too long")
	bareLF         = reply(500, "5.5.2", "lines must end in CR LF, closing the connection")
	outOfService   = reply(421, "4.3.2", "out of service, try another server")
	shuttingDown   = reply(421, "4.3.2", "shutting down, try another server")
	timedOut       = reply(421, "4.4.2", "timed out, closing the connection")
	noProxyHeader  = reply(421, "4.3.5", "no PROXY header from an address in smtp.proxy_protocol_from")
	accountChanged = reply(421, "4.7.0", "your account has changed, authenticate anew")
	tooManyGuesses = reply(421, "4.7.0", "wrong account or password too often, closing the connection")
	tooManyErrors  = reply(421, "4.7.0", "too many errors, closing the connection")
	tooMuchTalk    = reply(421, "4.7.0", "too many commands without a message, closing the connection")
	tooBusy        = reply(421, "4.3.2", "too many connections, try again later")
	tooManyOfYou   = reply(421, "4.7.0", "too many connections from your address")
)
