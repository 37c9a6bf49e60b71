package smtpout

import "time"

// Timeouts bound each phase of the dialogue. Zero means the default.
type Timeouts struct {
	Lookup   time.Duration // of the host's name
	Connect  time.Duration // to each address
	Greeting time.Duration
	Hello    time.Duration // reply to EHLO, HELO, STARTTLS and RSET
	TLS      time.Duration // handshake
	Mail     time.Duration
	Rcpt     time.Duration // each reply
	DataInit time.Duration // reply to DATA
	Block    time.Duration // each write of content, and the reply to a chunk before the last
	Dot      time.Duration // reply to the whole content
	Quit     time.Duration // all of Close
}

// DefaultTimeouts are those of RFC 5321 section 4.5.3.2; connecting gets 30 s,
// since a kernel's own limit of minutes would hold a slot for an address that
// is gone.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Lookup:   30 * time.Second,
		Connect:  30 * time.Second,
		Greeting: 5 * time.Minute,
		Hello:    5 * time.Minute,
		TLS:      time.Minute,
		Mail:     5 * time.Minute,
		Rcpt:     5 * time.Minute,
		DataInit: 2 * time.Minute,
		Block:    3 * time.Minute,
		Dot:      10 * time.Minute,
		Quit:     5 * time.Second,
	}
}

func (t Timeouts) withDefaults() Timeouts {
	d := DefaultTimeouts()
	for _, f := range []struct{ value, standard *time.Duration }{
		{&t.Lookup, &d.Lookup},
		{&t.Connect, &d.Connect},
		{&t.Greeting, &d.Greeting},
		{&t.Hello, &d.Hello},
		{&t.TLS, &d.TLS},
		{&t.Mail, &d.Mail},
		{&t.Rcpt, &d.Rcpt},
		{&t.DataInit, &d.DataInit},
		{&t.Block, &d.Block},
		{&t.Dot, &d.Dot},
		{&t.Quit, &d.Quit},
	} {
		if *f.value <= 0 {
			*f.value = *f.standard
		}
	}
	return t
}
