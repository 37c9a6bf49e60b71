package smtpout_test

import (
	"strings"
	"testing"

	"holdfast/test/sink"
)

// Whether the peer said anything to MAIL shows in the result: what this side refuses
// for it says nothing of the peer.
func TestAnswered(t *testing.T) {
	offer := []string{"PIPELINING", "CHUNKING", "SIZE 100"}
	for name, tt := range map[string]struct {
		offer   []string
		answer  func(sink.Step) sink.Reply
		content string
		to      string
		body    bool // can be read
		want    bool
	}{
		"taken":                      {offer, nil, "x\r\n", "rcpt@example.org", true, true},
		"taken without PIPELINING":   {[]string{}, nil, "x\r\n", "rcpt@example.org", true, true},
		"MAIL refused":               {offer, sink.On("MAIL", sink.Reply{Code: 550, Text: "no"}), "x\r\n", "rcpt@example.org", true, true},
		"421 to MAIL":                {offer, sink.On("MAIL", sink.Reply{Code: 421, Text: "no", Hangup: true}), "x\r\n", "rcpt@example.org", true, true},
		"closed at MAIL":             {offer, sink.On("MAIL", sink.Reply{Hangup: true}), "x\r\n", "rcpt@example.org", true, false},
		"larger than SIZE":           {offer, nil, strings.Repeat("x", 100) + "\r\n", "rcpt@example.org", true, false},
		"without SMTPUTF8":           {offer, nil, "x\r\n", "r\u00e9@example.org", true, false},
		"unreadable, with CHUNKING":  {offer, nil, "x\r\n", "rcpt@example.org", false, false},
		"unreadable, without any":    {[]string{}, nil, "x\r\n", "rcpt@example.org", false, true},
		"unreadable, only pipelined": {[]string{"PIPELINING"}, nil, "x\r\n", "rcpt@example.org", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := startSink(t, sink.Config{Offer: tt.offer, Answer: tt.answer})
			conn := connect(t, newDialer(), server.Addr())
			tx := message(tt.content, tt.to)
			if !tt.body {
				tx.Body = badBody(tt.content, errChecksum)
			}
			if got := conn.Send(testContext(t), tx).Answered; got != tt.want {
				t.Errorf("answered: %v, want %v", got, tt.want)
			}
		})
	}
	server := startSink(t, sink.Config{Offer: offer})
	for address, want := range map[string]bool{"rcpt@example.org": true, "r\u00e9@example.org": false} {
		result := connect(t, newDialer(), server.Addr()).Verify(testContext(t), "", []string{address})
		if result.Answered != want {
			t.Errorf("%s asked for: answered %v, want %v", address, result.Answered, want)
		}
	}
}
