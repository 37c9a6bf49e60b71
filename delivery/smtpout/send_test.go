package smtpout_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
	"holdfast/test/sink"
)

// offers are the ways in which a message can go out.
var offers = map[string][]string{
	"bdat in one flight": sink.DefaultOffer(),
	"data in one flight": sink.OfferWithout("CHUNKING", "BINARYMIME"),
	"bdat in steps":      sink.OfferWithout("PIPELINING"),
	"data in steps":      sink.OfferWithout("PIPELINING", "CHUNKING", "BINARYMIME"),
	"nothing offered":    {},
}

func eachOffer(t *testing.T, test func(t *testing.T, offer []string)) {
	for name, offer := range offers {
		t.Run(name, func(t *testing.T) { test(t, offer) })
	}
}

func chunking(offer []string) bool { return strings.Contains(strings.Join(offer, " "), "CHUNKING") }

func TestContentArrivesUnchanged(t *testing.T) {
	long := strings.Repeat("0123456789 a line of some length\r\n.\r\n..two\r\n", 20_000)
	contents := map[string]string{
		"plain":              "Subject: x\r\n\r\nhello\r\n",
		"empty":              "",
		"dots":               ".\r\n..\r\n.x\r\n\r\n.\r\n",
		"no final CRLF":      "Subject: x\r\n\r\nlast",
		"ends in a dot":      "a\r\n.",
		"ends in CR":         "a\r",
		"a block exactly":    strings.Repeat("x", 32<<10-2) + "\r\n",
		"dot after a block":  strings.Repeat("x", 32<<10-2) + "\r\n.y\r\n",
		"CRLF across blocks": strings.Repeat("x", 32<<10-1) + "\r\n.y\r\n",
		"a chunk exactly":    strings.Repeat("x", 256<<10-2) + "\r\n",
		"chunks":             long,
	}
	eachOffer(t, func(t *testing.T, offer []string) {
		server := startSink(t, sink.Config{Offer: offer})
		conn := connect(t, newDialer(), server.Addr())
		sent := 0
		for name, content := range contents {
			result := conn.Send(testContext(t), message(content))
			wantAccepted(t, result)
			sent++
			got := lastMessage(t, server, sent)
			expected := content
			if !chunking(offer) && !strings.HasSuffix(content, "\r\n") && content != "" {
				expected += "\r\n"
			}
			if string(got.Data) != expected || !got.Committed {
				t.Errorf("%s: %d octets (committed %v), want %d", name, len(got.Data), got.Committed, len(expected))
			}
		}
		if n := server.Stats().Connections; n != 1 {
			t.Errorf("%d connections, want 1 kept for all", n)
		}
	})
}

func TestReplyReachesOutcome(t *testing.T) {
	server := startSink(t, sink.Config{Answer: sink.On(sink.Dot, sink.Reply{Raw: "250-2.6.0 taken\r\n250 2.6.0 as 4711\r\n", Code: 250})})
	conn := connect(t, newDialer(), server.Addr())
	result := conn.Send(testContext(t), message("x\r\n"))
	wantAccepted(t, result)
	expected := relay.Reply{Code: 250, Enhanced: "2.6.0", Text: "taken as 4711"}
	if got := result.Outcomes[0].Reply; got != expected {
		t.Errorf("reply %+v, want %+v", got, expected)
	}
	if result.Host != server.Addr() || result.TLS != "" || !result.DSN {
		t.Errorf("result %+v", result)
	}
}

func TestParameters(t *testing.T) {
	server := startSink(t, sink.Config{})
	conn := connect(t, newDialer(), server.Addr())
	tx := message("x\r\n", "a@example.org", "ü@example.org")
	tx.BodyType, tx.SMTPUTF8, tx.Ret, tx.EnvID = smtpout.Body8BitMIME, true, "HDRS", "a+b c=d"
	tx.Recipients[0].Notify, tx.Recipients[0].ORcpt = "SUCCESS,FAILURE", "rfc822;a+x@example.org"
	tx.Recipients[1].ORcpt = `utf-8;ü\@example.org`
	wantAccepted(t, conn.Send(testContext(t), tx))
	got := lastMessage(t, server, 1)
	if w := "SIZE=3 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb+20c+3Dd"; got.Params != w {
		t.Errorf("MAIL parameters %q, want %q", got.Params, w)
	}
	expected := []sink.Recipient{
		{Address: "a@example.org", Params: "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bx@example.org"},
		{Address: "ü@example.org", Params: `ORCPT=utf-8;ü\x{5C}@example.org`},
	}
	if fmt.Sprint(got.Recipients) != fmt.Sprint(expected) {
		t.Errorf("recipients %q, want %q", got.Recipients, expected)
	}
}

func TestParametersOnlyWhereOffered(t *testing.T) {
	server := startSink(t, sink.Config{Offer: []string{}})
	conn := connect(t, newDialer(), server.Addr())
	tx := message("x\r\n")
	tx.BodyType, tx.Ret, tx.EnvID = smtpout.Body7Bit, "FULL", "e"
	tx.Recipients[0].Notify, tx.Recipients[0].ORcpt = "NEVER", "rfc822;a@b"
	result := conn.Send(testContext(t), tx)
	wantAccepted(t, result)
	got := lastMessage(t, server, 1)
	if got.Params != "" || got.Recipients[0].Params != "" || result.DSN {
		t.Errorf("parameters %q and %q, DSN %v, want none", got.Params, got.Recipients[0].Params, result.DSN)
	}
}

func TestUnfitForPeer(t *testing.T) {
	plain := []string{"PIPELINING", "SIZE 1000"}
	tests := []struct {
		name     string
		change   func(*smtpout.Transaction)
		phase    relay.Phase
		code     int
		enhanced string
	}{
		{"8BITMIME", func(t *smtpout.Transaction) { t.BodyType = smtpout.Body8BitMIME }, relay.PhaseMail, 554, "5.6.1"},
		{"BINARYMIME", func(t *smtpout.Transaction) { t.BodyType = smtpout.BodyBinaryMIME }, relay.PhaseMail, 554, "5.6.1"},
		{"SMTPUTF8", func(t *smtpout.Transaction) { t.SMTPUTF8 = true }, relay.PhaseMail, 550, "5.6.7"},
		{"non-ASCII sender", func(t *smtpout.Transaction) { t.From = "ü@example.net" }, relay.PhaseMail, 550, "5.6.7"},
		{"non-ASCII recipient", func(t *smtpout.Transaction) { t.Recipients[0].Address = "ü@x" }, relay.PhaseRcpt, 550, "5.6.7"},
		{"too large", func(t *smtpout.Transaction) { t.Size = 1001 }, relay.PhaseMail, 552, "5.3.4"},
		{"CRLF in sender", func(t *smtpout.Transaction) { t.From = "a@b>\r\nRSET" }, relay.PhaseMail, 553, "5.1.7"},
		{"CRLF in recipient", func(t *smtpout.Transaction) { t.Recipients[0].Address = "a@b\r\nDATA" }, relay.PhaseRcpt, 553, "5.1.3"},
		{"parameter in recipient", func(t *smtpout.Transaction) { t.Recipients[0].Address = "x> SIZE=1 <y@b" }, relay.PhaseRcpt, 553, "5.1.3"},
		{"empty recipient", func(t *smtpout.Transaction) { t.Recipients[0].Address = "" }, relay.PhaseRcpt, 553, "5.1.3"},
		{"CRLF in NOTIFY", func(t *smtpout.Transaction) { t.Recipients[0].Notify = "NEVER\r\nRSET" }, relay.PhaseRcpt, 501, "5.5.4"},
		{"CRLF in ORCPT", func(t *smtpout.Transaction) { t.Recipients[0].ORcpt = "a\r\nb;c" }, relay.PhaseRcpt, 501, "5.5.4"},
		{"RET", func(t *smtpout.Transaction) { t.Ret = "ALL" }, relay.PhaseMail, 501, "5.5.4"},
	}
	server := startSink(t, sink.Config{Offer: plain})
	conn := connect(t, newDialer(), server.Addr())
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tx := message("\xfc\r\n")
			test.change(&tx)
			f := conn.Send(testContext(t), tx).Outcomes[0].Failure
			wantFailure(t, f, want{relay.CauseRejected, test.phase, test.code, false})
			if f.Enhanced != test.enhanced || f.Class() != relay.PermanentFailure || !f.Own {
				t.Errorf("%v: class %v, want permanent with %s, of this side's own", f, f.Class(), test.enhanced)
			}
		})
	}
	wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
	if got := server.Stats(); got.Transactions != 1 {
		t.Errorf("the peer saw %d transactions, want only the lawful one", got.Transactions)
	}
}

func TestQuotedLocalPart(t *testing.T) {
	server := startSink(t, sink.Config{})
	conn := connect(t, newDialer(), server.Addr())
	address := `"x> SIZE=1 <\"y"@example.org`
	wantAccepted(t, conn.Send(testContext(t), message("x\r\n", address)))
	if got := lastMessage(t, server, 1).Recipients[0].Address; got != address {
		t.Errorf("recipient %q, want %q", got, address)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		verb string
		code int
		want want
	}{
		{"MAIL", 451, want{relay.CauseDeferred, relay.PhaseMail, 451, false}},
		{"MAIL", 550, want{relay.CauseRejected, relay.PhaseMail, 550, false}},
		{"RCPT", 450, want{relay.CauseDeferred, relay.PhaseRcpt, 450, false}},
		{"RCPT", 550, want{relay.CauseRejected, relay.PhaseRcpt, 550, false}},
		{sink.Dot, 452, want{relay.CauseDeferred, relay.PhaseDot, 452, false}},
		{sink.Dot, 554, want{relay.CauseRejected, relay.PhaseDot, 554, false}},
		{"DATA", 451, want{relay.CauseDeferred, relay.PhaseData, 451, false}},
	}
	eachOffer(t, func(t *testing.T, offer []string) {
		for _, test := range tests {
			if test.verb == "DATA" && chunking(offer) {
				continue
			}
			server := startSink(t, sink.Config{Offer: offer, Answer: sink.On(test.verb, sink.Reply{Code: test.code, Enhanced: fmt.Sprintf("%d.7.1", test.code/100), Text: "no"})})
			conn := connect(t, newDialer(), server.Addr())
			result := conn.Send(testContext(t), message("x\r\n", "a@x", "b@x"))
			for _, outcome := range result.Outcomes {
				wantFailure(t, outcome.Failure, test.want)
				if f := outcome.Failure; f.Text != "no" || f.Enhanced != fmt.Sprintf("%d.7.1", test.code/100) {
					t.Errorf("%s: %+v", test.verb, f)
				}
			}
			// The connection stays in step: the next message goes through on it.
			server.SetAnswer(nil)
			if !conn.Alive() {
				t.Fatalf("%s %d: connection not alive", test.verb, test.code)
			}
			wantAccepted(t, conn.Send(testContext(t), message("y\r\n")))
			if got := server.Stats(); got.Connections != 1 || got.Committed != 1 {
				t.Errorf("%s %d: %+v, want one connection and one committed", test.verb, test.code, got)
			}
		}
	})
}

func TestMixedRecipients(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		server := startSink(t, sink.Config{Offer: offer, Answer: func(s sink.Step) sink.Reply {
			switch s.Address {
			case "later@x":
				return sink.Reply{Code: 450, Text: "later"}
			case "never@x":
				return sink.Reply{Code: 550, Text: "never"}
			}
			return sink.Reply{}
		}})
		conn := connect(t, newDialer(), server.Addr())
		result := conn.Send(testContext(t), message("x\r\n", "a@x", "later@x", "b@x", "never@x"))
		wantFailure(t, result.Outcomes[1].Failure, want{relay.CauseDeferred, relay.PhaseRcpt, 450, false})
		wantFailure(t, result.Outcomes[3].Failure, want{relay.CauseRejected, relay.PhaseRcpt, 550, false})
		if result.Accepted() != 2 {
			t.Errorf("%d accepted, want 2", result.Accepted())
		}
		if got := lastMessage(t, server, 1); !got.Committed || len(got.Recipients) != 2 {
			t.Errorf("peer has %+v", got)
		}
	})
}

func TestManyRecipients(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		server := startSink(t, sink.Config{Offer: offer})
		conn := connect(t, newDialer(), server.Addr())
		var addresses []string
		for i := range 350 {
			addresses = append(addresses, fmt.Sprintf("r%d@example.org", i))
		}
		wantAccepted(t, conn.Send(testContext(t), message("x\r\n", addresses...)))
		if got := lastMessage(t, server, 1); len(got.Recipients) != 350 {
			t.Errorf("%d recipients arrived, want 350", len(got.Recipients))
		}
	})
}

func TestGoAheadWithoutRecipients(t *testing.T) {
	server := startSink(t, sink.Config{Offer: sink.OfferWithout("CHUNKING", "BINARYMIME"), Answer: func(s sink.Step) sink.Reply {
		switch s.Verb {
		case "RCPT":
			return sink.Reply{Code: 550, Text: "no"}
		case "DATA":
			return sink.Reply{Code: 354, Text: "all right"}
		}
		return sink.Reply{}
	}})
	conn := connect(t, newDialer(), server.Addr())
	result := conn.Send(testContext(t), message("secret\r\n"))
	wantFailure(t, result.Outcomes[0].Failure, want{relay.CauseRejected, relay.PhaseRcpt, 550, false})
	if got := lastMessage(t, server, 1); len(got.Data) != 0 {
		t.Errorf("content %q went out, want a lone dot", got.Data)
	}
	server.SetAnswer(nil)
	wantAccepted(t, conn.Send(testContext(t), message("y\r\n")))
}

func TestRefusedChunkStopsContent(t *testing.T) {
	server := startSink(t, sink.Config{Answer: sink.On("BDAT", sink.Reply{Code: 552, Text: "enough"})})
	conn := connect(t, newDialer(), server.Addr())
	result := conn.Send(testContext(t), message(strings.Repeat("x", 3<<20)))
	wantFailure(t, result.Outcomes[0].Failure, want{relay.CauseRejected, relay.PhaseData, 552, false})
	server.SetAnswer(nil)
	wantAccepted(t, conn.Send(testContext(t), message("y\r\n")))
	if got := server.Messages()[0]; got.Size >= 3<<20 || got.Committed {
		t.Errorf("peer has %d octets (committed %v) of the refused message", got.Size, got.Committed)
	}
}

func TestBodyThatFailsIsNeverCommitted(t *testing.T) {
	for name, size := range map[string]int{"short": 100, "block": 32 << 10, "long": 700 << 10} {
		content := strings.Repeat("x", size-2) + "\r\n"
		bodies := map[string]func(*smtpout.Transaction){
			"checksum": func(t *smtpout.Transaction) { t.Body = badBody(content, errChecksum) },
			"cut short": func(t *smtpout.Transaction) {
				t.Body = badBody(content[:size-1], io.ErrUnexpectedEOF)
			},
			"shorter than Size": func(t *smtpout.Transaction) { t.Size++ },
			"longer than Size":  func(t *smtpout.Transaction) { t.Size-- },
			"not there": func(t *smtpout.Transaction) {
				t.Body = func() (io.ReadCloser, error) { return nil, errChecksum }
			},
		}
		for fault, change := range bodies {
			t.Run(name+" "+fault, func(t *testing.T) {
				eachOffer(t, func(t *testing.T, offer []string) {
					server := startSink(t, sink.Config{Offer: offer})
					conn := connect(t, newDialer(), server.Addr())
					tx := message(content)
					change(&tx)
					f := conn.Send(testContext(t), tx).Outcomes[0].Failure
					wantFailure(t, f, want{relay.CauseDeferred, relay.PhaseData, 0, false})
					if !errors.Is(f, smtpout.ErrBody) {
						t.Errorf("failure %v, want ErrBody", f)
					}
					if conn.Reusable() {
						wantAccepted(t, conn.Send(testContext(t), message("y\r\n")))
					}
					conn.Close()
					if err := server.WaitStats(testContext(t), func(s sink.Stats) bool { return s.Open == 0 }); err != nil {
						t.Fatal(err)
					}
					for _, m := range server.Messages() {
						if m.Complete && string(m.Data) != "y\r\n" {
							t.Errorf("%d octets became a message (committed %v)", m.Size, m.Committed)
						}
					}
				})
			})
		}
	}
}

func TestBareLFBeforeDotIsNotSent(t *testing.T) {
	server := startSink(t, sink.Config{Offer: []string{"PIPELINING"}})
	for _, content := range []string{
		"a\n.\r\nMAIL FROM:<x@y>\r\n",
		"\n.\r\n",
		strings.Repeat("x", 32<<10-1) + "\n.\r\n",
	} {
		conn := connect(t, newDialer(), server.Addr())
		f := conn.Send(testContext(t), message(content)).Outcomes[0].Failure
		if f == nil || !errors.Is(f, smtpout.ErrBody) {
			t.Errorf("failure %v, want ErrBody", f)
		}
	}
	if got := server.Stats(); got.Committed != 0 {
		t.Errorf("%d committed, want none", got.Committed)
	}
}

func TestVerify(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		server := startSink(t, sink.Config{Offer: offer, Answer: func(s sink.Step) sink.Reply {
			if s.Address == "never@x" {
				return sink.Reply{Code: 550, Enhanced: "5.1.1", Text: "never"}
			}
			return sink.Reply{}
		}})
		conn := connect(t, newDialer(), server.Addr())
		result := conn.Verify(testContext(t), "", []string{"a@x", "never@x"})
		if got := result.Outcomes[0]; got.Failure != nil || got.Reply.Code != 250 {
			t.Errorf("a@x: %+v, want 250", got)
		}
		wantFailure(t, result.Outcomes[1].Failure, want{relay.CauseRejected, relay.PhaseRcpt, 550, false})
		wantAccepted(t, conn.Send(testContext(t), message("y\r\n")))
		if got := server.Messages(); len(got) != 2 || got[0].Complete || got[0].From != "" || got[0].Params != "" {
			t.Errorf("peer has %+v, want a call-out and a message", got)
		}
	})
}

// Who has an answer keeps it, though the next recipient costs the connection.
func TestVerifyKeepsWhatWasAnswered(t *testing.T) {
	for name, last := range map[string]sink.Reply{
		"421":    {Code: 421, Enhanced: "4.7.0", Text: "too many unknown users", Hangup: true},
		"closed": {Hangup: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := startSink(t, sink.Config{Answer: func(s sink.Step) sink.Reply {
				if s.Address == "never@x" {
					return last
				}
				return sink.Reply{}
			}})
			conn := connect(t, newDialer(), server.Addr())
			result := conn.Verify(testContext(t), "", []string{"a@x", "never@x"})
			if got := result.Outcomes[0]; got.Failure != nil || got.Reply.Code != 250 {
				t.Errorf("a@x: %+v, want 250", got)
			}
			if result.Outcomes[1].Failure == nil {
				t.Errorf("never@x: %+v", result.Outcomes[1])
			}
		})
	}
}

func TestMailLimit(t *testing.T) {
	server := startSink(t, sink.Config{Offer: []string{"LIMITS MAILMAX=2"}})
	conn := connect(t, newDialer(), server.Addr())
	for i, reusable := range []bool{true, false} {
		wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
		if conn.Reusable() != reusable {
			t.Errorf("after message %d: reusable %v, want %v", i+1, conn.Reusable(), reusable)
		}
	}
}

func TestTraceShowsDialogue(t *testing.T) {
	server := startSink(t, sink.Config{Offer: []string{"PIPELINING"}})
	d := newDialer()
	var lines []string
	d.Trace = func(sent bool, line string) {
		direction := "<"
		if sent {
			direction = ">"
		}
		lines = append(lines, direction+line)
	}
	conn, err := d.Connect(testContext(t), server.Addr(), relay.TLSNone, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
	conn.Close()
	expected := `<220 sink.test ESMTP sink
>EHLO relay.test
<250-sink.test
<250 PIPELINING
>MAIL FROM:<sender@example.net>
>RCPT TO:<rcpt@example.org>
>DATA
<250 2.0.0 sender ok
<250 2.0.0 recipient ok
<354 end with a dot on a line of its own
<250 2.0.0 taken
>QUIT
<221 2.0.0 bye`
	if got := strings.Join(lines, "\n"); got != expected {
		t.Errorf("dialogue\n%s\nwant\n%s", got, expected)
	}
}
