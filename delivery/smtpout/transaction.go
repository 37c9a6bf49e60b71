package smtpout

import (
	"io"

	"holdfast/relay"
)

// BodyType is what the content was declared as (RFC 6152, RFC 3030).
type BodyType int

// The body types.
const (
	BodyUnspecified BodyType = iota // no BODY= is sent
	Body7Bit
	Body8BitMIME
	BodyBinaryMIME
)

// Transaction is one message to one or more recipients of a next hop. Where the
// peer takes fewer recipients at a time it becomes several.
type Transaction struct {
	From       string // "" is the null sender
	Recipients []Recipient
	BodyType   BodyType
	SMTPUTF8   bool   // the client of the message asked for it
	Ret        string // FULL, HDRS or ""
	EnvID      string // decoded, or ""
	Size       int64  // exact length of the body in octets
	// Body opens the content: CRLF lines, no dot-stuffing. The reader must
	// return an error other than io.EOF at its end if what it gave was not what
	// was accepted, by checksum; a length other than Size is noticed here.
	// It is called once for each transaction, before or after the envelope was
	// answered, and once more where what the content holds decides how it can go.
	Body func() (io.ReadCloser, error)
}

// Recipient is one RCPT command.
type Recipient struct {
	Address string
	Notify  string // NOTIFY as received, such as "SUCCESS,FAILURE", or ""
	ORcpt   string // "type;address", decoded, or ""
}

// Outcome is what became of one recipient.
type Outcome struct {
	Reply   relay.Reply    // the peer's acceptance, if Failure is nil
	Failure *relay.Failure // may be shared by several recipients: read only
}

// Result is what became of a transaction.
type Result struct {
	Outcomes []Outcome // one for each of Transaction.Recipients, in their order
	Host     string    // host:port
	Address  string    // IP address and port behind Host
	TLS      string    // such as "TLS 1.3", "" in the clear
	DSN      bool      // the peer took over the duty to report (RFC 3461)
	// Answered is set where the peer answered MAIL, with whatever. Without it the
	// outcomes are this side's own: what the peer doesn't offer, a body that can't be
	// read, a lost connection.
	Answered bool
	// Stale is set where a connection that had been used before was found
	// closed by the peer, at the first command: it says nothing of the host, and
	// the transaction may be tried again on a fresh connection. Where the
	// failures are in doubt as well (the whole message went out in the first
	// flight), that must be recorded first.
	Stale bool
}

// Accepted counts the recipients that the peer took.
func (r *Result) Accepted() int {
	n := 0
	for i := range r.Outcomes {
		if r.Outcomes[i].Failure == nil {
			n++
		}
	}
	return n
}
