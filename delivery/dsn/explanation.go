package dsn

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/relay"
)

const (
	textWidth = 74
	humanTime = "2 January 2006, 15:04 MST"
)

// explanationPart is the part for people: who didn't get the message, why in
// the remote's own words, and how long was tried.
func (r Report) explanationPart(whole bool) part {
	// Room is kept for the count of those left out and the last paragraph.
	room := maxExplanation - 1<<10
	text := r.opening()
	for i, recipient := range r.Recipients {
		next := r.explain(recipient)
		if len(encodeText(text).body)+len(encodeText(next).body) > room {
			text += fmt.Sprintf("\n%d more recipients are listed in the attached delivery status.\n",
				len(r.Recipients)-i)
			break
		}
		text += next
	}
	p := encodeText(text + r.closing(whole))
	p.description = "Notification"
	return p
}

// encodeText makes a text part of lines that end with \n: as it is where it is
// plain enough, so that it stays readable in the source.
func encodeText(text string) part {
	crlf := []byte(strings.ReplaceAll(text, "\n", "\r\n"))
	plain := isASCII(text)
	for line := range strings.SplitSeq(text, "\n") {
		plain = plain && len(line) <= textWidth
	}
	if plain {
		return part{contentType: "text/plain; charset=us-ascii", encoding: "7bit", body: crlf}
	}
	return part{contentType: "text/plain; charset=utf-8", encoding: "quoted-printable", body: quoted(crlf)}
}

func (r Report) opening() string {
	message := "Your message"
	if !r.ArrivalDate.IsZero() {
		message += ", taken on " + r.ArrivalDate.UTC().Format(humanTime) + ","
	}
	fate := " could not be delivered to "
	switch r.Reason {
	case Rejected:
		if r.isRefused() {
			fate = " was refused and could not be delivered to "
		}
	case Expired:
		fate = " could not be delivered in " + inWords(r.Date.Sub(r.ArrivalDate)) + " to "
	case Delayed:
		fate = " could not be delivered yet to "
	case Relayed:
		fate = " was handed on for "
	case Returned:
		fate = " has not been delivered and is returned by the relay's administrator. It was for "
	}
	whom := "this recipient:"
	if len(r.Recipients) > 1 {
		whom = fmt.Sprintf("these %d recipients:", len(r.Recipients))
	}
	return wrap("", "This is the mail relay "+hostname(r.ReportingMTA)+".") + "\n" +
		wrap("", message+fate+whom)
}

func (r Report) closing(whole bool) string {
	var text string
	switch r.Reason {
	case Expired:
		text = "It will not be tried again. The cause may pass: you can send the message again later. "
	case Delayed:
		text = "It is still being tried: you need not send it again. "
		if until := r.Recipients[0].RetryUntil; !until.IsZero() {
			text = "It will be tried until " + until.UTC().Format(humanTime) + ": you need not send it again. "
		}
	case Relayed:
		text = "That server doesn't confirm deliveries: this is the last that you hear of it from here, unless it fails there. "
	case Returned:
		text = "It will not be tried again. "
	default:
		text = "It will not be tried again. The reason above tells what to change before you send it again. "
		if r.isRefused() {
			text = "It will not be tried again. The answer above tells what to change before you send it again. "
		}
	}
	attached := "The headers of your message are attached."
	if whole {
		attached = "Your message is attached."
	}
	return "\n" + wrap("", text+attached) + "\n" +
		wrap("", "The relay's administrator finds it under "+r.OriginalID.String()+".")
}

// explain says in words what became of one recipient.
func (r Report) explain(recipient Recipient) string {
	text := "\n" + wrap("", "<"+clean(recipient.Address, maxAddress)+">")
	if r.Reason == Relayed {
		return text + wrap("    ", "The server "+clean(recipient.Host, maxHost)+" took it:") +
			wrap("        ", clean(recipient.Reply, r.replyBound()))
	}
	f := recipient.Failure
	if f == nil {
		if r.Reason == Delayed {
			return text + wrap("    ", "It waits for its turn.")
		}
		return text + wrap("    ", "No attempt could be made.")
	}
	text += wrap("    ", r.happened(f))
	quote := f.Text
	if answered(f) {
		quote = reply(f)
	}
	if quote = clean(quote, r.replyBound()); quote != "" {
		text += wrap("        ", quote)
	}
	if f.InDoubt {
		text += wrap("    ", "It may have arrived all the same: the server was given all of it and then said nothing.")
	}
	return text
}

// happened is the sentence that leads to the remote's words.
func (r Report) happened(f *relay.Failure) string {
	server := "The recipient's mail server"
	if f.Host != "" {
		server = "The server " + clean(f.Host, maxHost)
	}
	sentence := server + " " + verb(f) + ":"
	switch {
	case f.Own && f.Phase == relay.PhaseData:
		sentence = "This relay could not read what it has of the message:"
	case f.Own && f.Host != "":
		sentence = "This relay found that " + strings.ToLower(server[:1]) + server[1:] + " cannot be given it:"
	case f.Own:
		sentence = "This relay found that no server takes it:"
	case f.Cause == relay.CauseDNS && f.Code == 0:
		sentence = "The address of the recipient's mail server could not be found:"
	}
	if r.Reason != Rejected && !f.At.IsZero() {
		return "The last attempt was on " + f.At.UTC().Format(humanTime) + ". " + sentence
	}
	return sentence
}

// isRefused reports whether a server has refused it, other than this relay found.
func (r Report) isRefused() bool {
	return slices.ContainsFunc(r.Recipients, func(recipient Recipient) bool {
		return recipient.Failure == nil || !recipient.Failure.Own
	})
}

func verb(f *relay.Failure) string {
	if f.Code != 0 {
		return "answered"
	}
	switch f.Cause {
	case relay.CauseRefused:
		return "refused the connection"
	case relay.CauseUnreachable:
		return "could not be reached"
	case relay.CauseTimeout:
		return "did not answer in time"
	case relay.CauseTLS:
		return "offered no secure connection that can be trusted"
	case relay.CauseAuth:
		return "did not let us log in"
	case relay.CauseClosed:
		return "closed the connection"
	}
	return "could not be given the message"
}

// inWords is a span of time in its largest unit that counts at least two.
func inWords(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return "a minute"
}

// wrap breaks text at its spaces into indented lines.
func wrap(indent, text string) string {
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && len(line)+1+len(word) > textWidth {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}
