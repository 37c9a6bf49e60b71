package relay

import (
	"fmt"
	"strings"
	"time"
)

// Cause says in one word of the contract why an attempt failed.
type Cause string

// The causes, as operators see them.
const (
	CauseDNS         Cause = "dns"
	CauseRefused     Cause = "refused"
	CauseUnreachable Cause = "unreachable"
	CauseTimeout     Cause = "timeout"
	CauseTLS         Cause = "tls"
	CauseAuth        Cause = "auth"
	CauseDeferred    Cause = "deferred" // 4xx, or this side can't go on now
	CauseRejected    Cause = "rejected" // 5xx
	CauseClosed      Cause = "closed"   // the peer hung up
)

// Phase is the step of the dialogue in which an attempt failed.
type Phase string

// The phases, in the order of a transaction.
const (
	PhaseDNS      Phase = "dns"
	PhaseConnect  Phase = "connect"
	PhaseGreeting Phase = "greeting"
	PhaseEHLO     Phase = "ehlo"
	PhaseTLS      Phase = "tls"
	PhaseAuth     Phase = "auth"
	PhaseMail     Phase = "mail"
	PhaseRcpt     Phase = "rcpt"
	PhaseData     Phase = "data" // DATA or BDAT, until the end of the content
	PhaseDot      Phase = "dot"  // content complete, waiting for the last reply
)

// BeforeMail reports whether the phase lies before MAIL FROM: a failure there
// says something of the host and nothing of the message.
func (p Phase) BeforeMail() bool {
	switch p {
	case PhaseDNS, PhaseConnect, PhaseGreeting, PhaseEHLO, PhaseTLS, PhaseAuth:
		return true
	}
	return false
}

// Class says what a failure means for the message and for its destination.
type Class int

// The classes of a failure.
const (
	// HostFailure: the destination can't take mail; it says nothing of the message.
	HostFailure Class = iota
	// TemporaryFailure: this message (or recipient) was deferred.
	TemporaryFailure
	// PermanentFailure: this message (or recipient) was refused for good.
	PermanentFailure
)

// Failure is the one typed error of an SMTP attempt, in or out of the dialogue.
type Failure struct {
	Cause    Cause
	Phase    Phase
	Host     string // host:port that was tried, "" before one was chosen
	Address  string // IP address and port behind Host, "" where it didn't come to that; never stored
	Code     int    // the remote's reply code, 0 where there was no reply
	Enhanced string // RFC 3463 code such as "4.2.2", "" where the remote gave none
	Text     string // the remote's own words, or the system's error text
	At       time.Time
	// Own is set where this relay found out itself that the remote can't take it:
	// Code and Enhanced say what that means, and the remote never said them.
	Own bool
	// Untried is set where a recipient's turn never came, since the transactions for
	// others of the message were the last on their connection: no attempt was made for
	// it. Never stored.
	Untried bool
	// InDoubt is set where the whole content was sent and no reply came: the
	// remote may have taken the message (RFC 5321 section 4.5.3.2.6, RFC 1047).
	InDoubt bool
	Err     error // underlying error, for errors.Is; never stored
}

// Class decides once what is temporary and what is permanent (R3).
func (f *Failure) Class() Class {
	switch {
	case f.Untried:
		return HostFailure
	case f.InDoubt:
		// The remote may have taken it. Trying again at once would double it; the
		// message's own schedule decides when.
		return TemporaryFailure
	case f.Phase == PhaseDNS && f.Code >= 500:
		// RFC 7505 section 5: a null MX record says that the name takes no mail.
		return PermanentFailure
	case f.Phase.BeforeMail(), f.Code == 421, f.Cause == CauseTimeout:
		return HostFailure
	case f.Phase == PhaseRcpt && f.Code == 552:
		// RFC 5321 section 4.5.3.1.10: 552 to RCPT means too many recipients
		// and is to be treated as 452.
		return TemporaryFailure
	case f.Code >= 500 && f.Code < 600:
		return PermanentFailure
	case f.Code >= 400 && f.Code < 500:
		return TemporaryFailure
	case f.Phase == PhaseData || f.Phase == PhaseDot:
		// A connection that breaks on the content may be the message's doing:
		// another message decides whether the host is down.
		return TemporaryFailure
	}
	return HostFailure
}

// Error writes the failure the way a log line or a report quotes it.
func (f *Failure) Error() string {
	var b strings.Builder
	if f.Host != "" {
		fmt.Fprintf(&b, "%s: ", f.Host)
	}
	fmt.Fprintf(&b, "%s at %s", f.Cause, f.Phase)
	if f.Own {
		fmt.Fprintf(&b, ", not sent: %s", f.Text)
		return b.String()
	}
	if f.Code != 0 {
		fmt.Fprintf(&b, ": %d", f.Code)
	}
	if f.Enhanced != "" {
		fmt.Fprintf(&b, " %s", f.Enhanced)
	}
	if f.Text != "" {
		fmt.Fprintf(&b, " %s", f.Text)
	}
	return b.String()
}

// Unwrap gives the underlying network or TLS error, if any.
func (f *Failure) Unwrap() error { return f.Err }
