package dsn

import (
	"bytes"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"holdfast/relay"
)

// Bounds in bytes of what stands in one field. Addresses, ORCPT and ENVID are
// shorter by RFC 5321 section 4.5.3.1 and RFC 3461 sections 4.2 and 4.4; the
// bounds make MaxSize hold whatever comes.
const (
	maxAddress    = 512
	maxEnvID      = 200
	maxHost       = 255
	maxReply      = 2000
	maxReplyShort = 250
	fewRecipients = 10 // up to here replies are quoted in full
)

// statusPart is the machine's part of the report (RFC 3464 section 2.1, RFC
// 6533 section 4).
func (r Report) statusPart() part {
	var b bytes.Buffer
	field(&b, "Reporting-MTA", "dns; "+hostname(r.ReportingMTA))
	if id := r.text(r.EnvID, maxEnvID); id != "" {
		// RFC 3461 section 6.3 (b): present if and only if ENVID was.
		field(&b, "Original-Envelope-Id", id)
	}
	if !r.ArrivalDate.IsZero() {
		field(&b, "Arrival-Date", r.ArrivalDate.UTC().Format(time.RFC1123Z))
	}
	field(&b, "X-Holdfast-Message-ID", r.OriginalID.String())
	for _, recipient := range r.Recipients {
		b.WriteString("\r\n")
		r.writeRecipient(&b, recipient)
	}
	p := part{
		contentType: "message/delivery-status",
		description: "Delivery status",
		encoding:    "7bit", // RFC 3464 section 2.1 allows nothing else
		body:        b.Bytes(),
	}
	if r.International() {
		p.contentType = "message/global-delivery-status"
		p.encoding = bitsOf(p.body)
	}
	return p
}

func (r Report) writeRecipient(b *bytes.Buffer, recipient Recipient) {
	if kind, address, ok := strings.Cut(recipient.ORcpt, ";"); ok && addressType.MatchString(kind) {
		// RFC 3464 section 2.3.1: only what the sender gave as ORCPT.
		field(b, "Original-Recipient", r.typedAddress(kind, address))
	}
	field(b, "Final-Recipient", r.typedAddress("rfc822", recipient.Address))
	field(b, "Action", r.action())
	field(b, "Status", r.status(recipient.Failure))
	if r.Reason == Relayed {
		field(b, "Remote-MTA", "dns; "+hostname(hostOf(recipient.Host)))
		field(b, "Diagnostic-Code", "smtp; "+r.text(recipient.Reply, r.replyBound()))
		return
	}
	if f := recipient.Failure; f != nil {
		r.writeFailure(b, f)
	}
	if !recipient.RetryUntil.IsZero() {
		field(b, "Will-Retry-Until", recipient.RetryUntil.UTC().Format(time.RFC1123Z))
	}
}

// action is RFC 3464 section 2.3.3.
func (r Report) action() string {
	switch r.Reason {
	case Delayed:
		return "delayed"
	case Relayed:
		return "relayed"
	}
	return "failed"
}

func (r Report) writeFailure(b *bytes.Buffer, f *relay.Failure) {
	if answered(f) && f.Host != "" {
		// RFC 3464 section 2.3.5: the MTA that reported; one that said nothing
		// is named in the diagnostic only.
		field(b, "Remote-MTA", "dns; "+hostname(hostOf(f.Host)))
	}
	field(b, "Diagnostic-Code", r.diagnostic(f))
	if !f.At.IsZero() {
		field(b, "Last-Attempt-Date", f.At.UTC().Format(time.RFC1123Z))
	}
}

// addressType is an atom in the sense of RFC 3461 section 4.2.
var addressType = regexp.MustCompile(`^[A-Za-z0-9-]{1,30}$`)

// typedAddress writes an address of a type. One that isn't ASCII becomes type utf-8,
// which is as it is in the international form, else escaped (RFC 6533 section 3).
func (r Report) typedAddress(kind, address string) string {
	if !isASCII(address) || strings.EqualFold(kind, "utf-8") {
		kind = "utf-8"
		address = escapeAddress(address, r.International())
	}
	return kind + ";" + r.text(address, maxAddress)
}

// escapeAddress writes utf-8-addr-unitext, or utf-8-addr-xtext where only ASCII
// may stand (RFC 6533 section 3).
func escapeAddress(address string, unitext bool) string {
	var b strings.Builder
	for _, c := range address {
		// QCHAR of the RFC: printable ASCII without space, +, =, \.
		switch qchar := c > ' ' && c < 0x7f && !strings.ContainsRune(`+=\`, c); {
		case qchar, unitext && c > 0x7f:
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, `\x{%02X}`, c)
		}
	}
	return b.String()
}

// answered reports whether the remote has said something: a code may be this side's
// own finding.
func answered(f *relay.Failure) bool { return f.Code != 0 && !f.Own }

// diagnostic is the remote's reply as type smtp, or what happened without one
// under a type of our own (RFC 3464 section 2.3.6: smtp is for replies only).
func (r Report) diagnostic(f *relay.Failure) string {
	if !answered(f) {
		text := fmt.Sprintf("%s at %s", f.Cause, f.Phase)
		if f.Host != "" {
			text += " with " + f.Host
		}
		if f.Text != "" {
			text += ": " + f.Text
		}
		return "X-Holdfast; " + r.text(text, r.replyBound())
	}
	return "smtp; " + r.text(reply(f), r.replyBound())
}

func (r Report) replyBound() int {
	if len(r.Recipients) <= fewRecipients {
		return maxReply
	}
	return maxReplyShort
}

// reply is the remote's answer on one line.
func reply(f *relay.Failure) string {
	parts := []string{fmt.Sprint(f.Code)}
	if f.Enhanced != "" {
		parts = append(parts, f.Enhanced)
	}
	return strings.Join(append(parts, f.Text), " ")
}

// enhancedCode is a status of RFC 3463 section 2 for a failure.
var enhancedCode = regexp.MustCompile(`^([45])(\.[0-9]{1,3}\.[0-9]{1,3})$`)

// status is the recipient's Status. RFC 3464 section 2.3.4: its class is that of the
// action, so what is delayed has a class 4, also where a 5xx is held.
func (r Report) status(f *relay.Failure) string {
	code := statusCode(r.Reason, f)
	if r.Reason == Delayed {
		return "4" + code[1:]
	}
	return code
}

// statusCode is the code that says most. A class 4 with "Action: failed" is
// right for what expired: RFC 3463 section 2 has it for a "persistence of some
// temporary condition" that "caused abandonment", and the sender learns that
// sending again may help. The remote's own code comes before 4.4.7, as RFC 3463
// section 3.5 wants.
func statusCode(reason Reason, f *relay.Failure) string {
	if reason == Relayed {
		return "2.0.0" // RFC 3464 section 2.3.4: the class of the action
	}
	if f != nil {
		if m := enhancedCode.FindStringSubmatch(f.Enhanced); m != nil {
			if f.Code >= 400 && f.Code < 600 {
				// RFC 2034 section 4: both classes are the same; where a server
				// mixes them up, the basic code was what we acted on.
				return fmt.Sprint(f.Code/100) + m[2]
			}
			return m[0]
		}
	}
	switch {
	case reason == Rejected:
		return "5.0.0"
	case reason == Returned && f == nil:
		return "5.0.0" // nothing failed, and sending again won't help
	case f != nil && f.Code == 0:
		return statusOfCause(f)
	case reason == Delayed:
		return "4.0.0" // 4.4.7 is for what has expired
	}
	return "4.4.7"
}

// statusOfCause is the status of an attempt that ended without a reply.
func statusOfCause(f *relay.Failure) string {
	switch f.Cause {
	case relay.CauseDNS:
		return "4.4.3" // directory server failure
	case relay.CauseRefused, relay.CauseUnreachable:
		return "4.4.1" // no answer from host
	case relay.CauseTimeout:
		if f.Phase == relay.PhaseConnect {
			return "4.4.1"
		}
		return "4.4.2" // bad connection
	case relay.CauseClosed:
		return "4.4.2"
	case relay.CauseTLS:
		return "4.7.5" // cryptographic failure
	case relay.CauseAuth:
		return "4.7.0" // other security status
	case relay.CauseDeferred:
		return "4.3.0" // other mail system status: ours
	}
	return "4.4.7"
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
