// Package dsn writes non-delivery reports: a multipart/report message (RFC 6522)
// that tells a sender, and the sender's software (RFC 3464), for which
// recipients the relay has given up. It is pure: ids and times are inputs, so
// the same report is rendered to the same bytes on every node.
//
// The way of a report:
//
//  1. Due says whether the envelope wants one at all (RFC 3461).
//  2. Report.Render writes the recipients' fields for machines.
//  3. It takes from the original what fits: the message, else its headers.
//  4. It explains the failure in words and says which of the two is attached.
//  5. It picks a boundary that occurs in no part, and joins the parts.
package dsn

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"strings"
	"time"

	"holdfast/relay"
)

const (
	// MaxSize is the size in bytes that no report exceeds: it travels in the
	// event that ends its recipients.
	MaxSize = 128 << 10
	// MaxRecipients is the number of recipients in one report. The fields of so
	// many fit into MaxSize, however long, beside the headers of the original.
	MaxRecipients = 50

	maxReturned    = 64 << 10
	maxExplanation = 12 << 10
	maxFraming     = 4 << 10 // header, boundaries, headers of the parts
)

// Reason says why the relay gave up.
type Reason int

const (
	// Rejected: the destination refused for good.
	Rejected Reason = iota
	// Expired: the retention ended, or the attempts, before the destination took
	// the message.
	Expired
	// Returned: the relay's operator gave it back.
	Returned
	// Delayed: the relay goes on trying (RFC 3464 section 2.3.3, delayed).
	Delayed
	// Relayed: handed on to a server that doesn't report deliveries (RFC 3461
	// section 5.2.2, RFC 3464 section 2.3.3, relayed).
	Relayed
)

// Report is one non-delivery report. Text from outside may be anything: what
// can't stand in a header is replaced, what is too long is cut.
type Report struct {
	ID   relay.MessageID // the report's own
	Date time.Time
	// ReportingMTA is the host name of the relay. The report is from
	// MAILER-DAEMON there.
	ReportingMTA string
	Reason       Reason
	Recipients   []Recipient // 1 to MaxRecipients

	// To is the envelope sender of the original, not null.
	To string
	// EnvID and Ret are ENVID (decoded) and RET of the original, "" where not given.
	EnvID, Ret string
	// SMTPUTF8 says that the original was sent with it.
	SMTPUTF8 bool
	// ArrivalDate is the time at which the original was accepted.
	ArrivalDate time.Time
	// OriginalID is the relay's id of the original.
	OriginalID relay.MessageID
	// HeaderMessageID is the Message-ID header of the original with its angle
	// brackets, "" where it had none.
	HeaderMessageID string
}

// Recipient is a recipient that was given up, or what else the report is about.
type Recipient struct {
	Address string
	// ORcpt is ORCPT as "type;address" (decoded), "" where not given.
	ORcpt string
	// Failure is the last attempt's, nil where none was made.
	Failure *relay.Failure
	// RetryUntil is when a delayed one is given up.
	RetryUntil time.Time
	// Host took a relayed one with Reply.
	Host  string
	Reply string
}

// Due reports whether a failure is to be reported: never to the null sender,
// which is how reports themselves are sent (RFC 5321 section 4.5.5), and only
// where NOTIFY is absent or asks for FAILURE (RFC 3461 section 4.1).
func Due(from, notify string) bool {
	return from != "" && (notify == "" || asksFor(notify, "FAILURE"))
}

// SuccessDue reports whether a sender is to be told that a message was relayed:
// only where NOTIFY asks for SUCCESS.
func SuccessDue(from, notify string) bool { return from != "" && asksFor(notify, "SUCCESS") }

func asksFor(notify, wanted string) bool {
	for keyword := range strings.SplitSeq(notify, ",") {
		if strings.EqualFold(strings.TrimSpace(keyword), wanted) {
			return true
		}
	}
	return false
}

// International reports whether the report is written in the forms of RFC 6533
// and so needs SMTPUTF8 on its way.
func (r Report) International() bool {
	return r.SMTPUTF8 || !isASCII(r.To)
}

// part is one body part with its body already encoded.
type part struct {
	contentType string
	description string
	encoding    string
	body        []byte
}

// Render writes the report about an original that starts with its header
// section. It is at most MaxSize bytes, with CRLF line ends. It has 8-bit
// content only where Content-Transfer-Encoding says so. It fails for
// a number of recipients that isn't 1 to MaxRecipients, or where reading the
// original fails.
func (r Report) Render(original io.Reader) ([]byte, error) {
	if n := len(r.Recipients); n == 0 || n > MaxRecipients {
		return nil, fmt.Errorf("report with %d recipients: want 1 to %d", n, MaxRecipients)
	}
	status := r.statusPart()
	budget := min(maxReturned, MaxSize-maxExplanation-maxFraming-len(status.body))
	returned, whole, err := r.returnedPart(original, budget)
	if err != nil {
		return nil, fmt.Errorf("report on %s: read the original: %w", r.OriginalID, err)
	}
	return r.join([]part{r.explanationPart(whole), status, returned})
}

// join writes the header and the parts below it.
func (r Report) join(parts []part) ([]byte, error) {
	var b bytes.Buffer
	boundary := boundaryFor(r.ID, parts)
	r.writeHeader(&b, boundary, parts)

	w := multipart.NewWriter(&b)
	if err := w.SetBoundary(boundary); err != nil {
		return nil, fmt.Errorf("report boundary: %w", err)
	}
	for _, p := range parts {
		header := textproto.MIMEHeader{}
		header.Set("Content-Type", p.contentType)
		header.Set("Content-Description", p.description)
		header.Set("Content-Transfer-Encoding", p.encoding)
		body, err := w.CreatePart(header)
		if err != nil {
			return nil, fmt.Errorf("report part: %w", err)
		}
		if _, err := body.Write(p.body); err != nil {
			return nil, fmt.Errorf("report part: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("report end: %w", err)
	}
	return b.Bytes(), nil
}

func (r Report) writeHeader(b *bytes.Buffer, boundary string, parts []part) {
	host := hostname(r.ReportingMTA)
	field(b, "Date", r.Date.UTC().Format(time.RFC1123Z))
	field(b, "From", "Mail Delivery System <MAILER-DAEMON@"+host+">")
	field(b, "To", mailbox(r.To))
	field(b, "Subject", r.subject())
	field(b, "Message-ID", "<"+r.ID.String()+"@"+host+">")
	if id := messageID(r.HeaderMessageID, r.International()); id != "" {
		// RFC 3834 section 3.1.5: an answer by machine refers to what it answers.
		field(b, "In-Reply-To", id)
		field(b, "References", id)
	}
	field(b, "Auto-Submitted", "auto-replied") // RFC 3834 section 5
	field(b, "MIME-Version", "1.0")
	field(b, "Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`)
	field(b, "Content-Transfer-Encoding", widest(parts))
	b.WriteString("\r\n")
}

func (r Report) subject() string {
	switch r.Reason {
	case Expired:
		return "Undelivered mail: gave up after " + inWords(r.Date.Sub(r.ArrivalDate))
	case Delayed:
		return "Delayed mail: not delivered after " + inWords(r.Date.Sub(r.ArrivalDate)) + ", still trying"
	case Relayed:
		return "Relayed mail: handed on to a server that doesn't confirm deliveries"
	case Returned:
		return "Undelivered mail: returned by the relay's administrator"
	}
	if !r.isRefused() {
		return "Undelivered mail: the recipient's server cannot take it"
	}
	return "Undelivered mail: refused by the recipient's server"
}

// widest is the encoding of the whole: RFC 2045 section 6.4 wants a multipart
// to declare 8bit where a part has it.
func widest(parts []part) string {
	for _, p := range parts {
		if p.encoding == "8bit" {
			return "8bit"
		}
	}
	return "7bit"
}

// boundaryFor derives the boundary from the report's id, and counts on where
// someone guessed it and put it into the original or into a reply.
func boundaryFor(id relay.MessageID, parts []part) string {
	for n := 0; ; n++ {
		boundary := fmt.Sprintf("=_%s.%d", id, n)
		if !occurs(boundary, parts) {
			return boundary
		}
	}
}

func occurs(boundary string, parts []part) bool {
	for _, p := range parts {
		if bytes.Contains(p.body, []byte(boundary)) {
			return true
		}
	}
	return false
}
