package smtpout_test

import (
	"errors"
	"strings"
	"testing"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
	"holdfast/test/sink"
)

// declared is content under a client's word that it is 8BITMIME and SMTPUTF8.
func declared(content string) smtpout.Transaction {
	tx := message(content)
	tx.BodyType, tx.SMTPUTF8 = smtpout.Body8BitMIME, true
	return tx
}

// What is plain in fact goes to a peer that knows nothing else, whatever the client
// has declared, and without a word of it.
func TestPlainContentGoesEverywhere(t *testing.T) {
	long := strings.Repeat("a line of plain text\r\n", 20_000)
	for name, offer := range map[string][]string{
		"nothing offered": {},
		"no 8BITMIME":     sink.OfferWithout("8BITMIME"),
		"no SMTPUTF8":     sink.OfferWithout("SMTPUTF8"),
	} {
		t.Run(name, func(t *testing.T) {
			server := startSink(t, sink.Config{Offer: offer})
			conn := connect(t, newDialer(), server.Addr())
			wantAccepted(t, conn.Send(testContext(t), declared(long)))
			got := lastMessage(t, server, 1)
			if string(got.Data) != long {
				t.Errorf("%d octets arrived, want %d", len(got.Data), len(long))
			}
			offered := strings.Join(offer, " ")
			for parameter, extension := range map[string]string{"BODY=": "8BITMIME", "SMTPUTF8": "SMTPUTF8"} {
				if got := strings.Contains(got.Params, parameter); got != strings.Contains(offered, extension) {
					t.Errorf("%s in MAIL: %v, offered is %q", parameter, got, offered)
				}
			}
		})
	}
}

func TestEightBitContentNeedsThePeer(t *testing.T) {
	content := strings.Repeat("a line of plain text\r\n", 20_000) + "caf\xe9\r\n"
	server := startSink(t, sink.Config{Offer: []string{}})
	conn := connect(t, newDialer(), server.Addr())
	f := conn.Send(testContext(t), declared(content)).Outcomes[0].Failure
	wantFailure(t, f, want{relay.CauseRejected, relay.PhaseMail, 554, false})
	if f.Enhanced != "5.6.1" || !f.Own || f.Class() != relay.PermanentFailure {
		t.Errorf("%+v, want a refusal of this side's own", f)
	}
	// An octet above 127 may be the damage itself.
	for _, content := range []string{"plain\r\n", "caf\xe9\r\n"} {
		tx := declared("")
		tx.Body = badBody(content, errChecksum)
		if f := conn.Send(testContext(t), tx).Outcomes[0].Failure; f == nil || !errors.Is(f, smtpout.ErrBody) {
			t.Errorf("%q: failure %v, want ErrBody of what can't be read", content, f)
		}
	}
	if got := server.Stats().Transactions; got != 0 {
		t.Errorf("the peer saw %d transactions", got)
	}
}

// A server that refuses EHLO hasn't said what it offers: what needs more than HELO waits
// until it does, all else goes.
func TestRefusedEHLOIsNoWordOnTheMessage(t *testing.T) {
	for _, code := range []int{500, 501, 502, 504} {
		server := startSink(t, sink.Config{Answer: sink.On("EHLO", sink.Reply{Code: code, Text: "not now"})})
		conn := connect(t, newDialer(), server.Addr())
		for name, tx := range map[string]smtpout.Transaction{
			"8-bit":   declared("caf\xe9\r\n"),
			"sender":  func() smtpout.Transaction { tx := message("x\r\n"); tx.From = "ü@example.net"; return tx }(),
			"address": message("x\r\n", "ü@example.org"),
		} {
			f := conn.Send(testContext(t), tx).Outcomes[0].Failure
			if f == nil || f.Class() != relay.TemporaryFailure || !f.Own || f.Code != 451 {
				t.Errorf("%d to EHLO, %s: %v, want it to wait", code, name, f)
			}
		}
		wantAccepted(t, conn.Send(testContext(t), declared("plain\r\n")))
	}
}
